"""InstantStyle: IP-Adapter files, image tokens, block weights and content subtraction."""
