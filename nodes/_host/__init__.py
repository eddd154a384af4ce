"""Everything that knows the host's patcher, samplers, memory manager and folders."""
