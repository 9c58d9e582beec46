"""Programs and processes: started, ended, and stopped in between."""
