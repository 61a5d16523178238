"""What every command line shares: flags and saved configurations, settings, devices, progress, tables, exit status."""
