"""Drivers of published applications, each run in a process of its own."""
