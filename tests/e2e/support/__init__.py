"""What the end-to-end tests share: settings, waiting, raw HTTP, the machine, daemons of our own, the command line."""
