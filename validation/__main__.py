"""``python -m validation [names] [--quick] [--list]``."""

from validation._runner import main

if __name__ == "__main__":
    raise SystemExit(main())
