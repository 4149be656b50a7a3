"""One Redis, or several: the protocol of commits, who finds which server, the embedded server."""
