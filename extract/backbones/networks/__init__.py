"""The networks of the backbones: torch modules that map clips to steps. Imported only when a network is built."""
