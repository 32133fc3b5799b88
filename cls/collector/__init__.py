"""The annotation service: its client, its wire format, downloads, and the own small collector."""
