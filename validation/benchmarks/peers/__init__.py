"""One file a peer; see `_peer.Peer` for what each of them holds."""
