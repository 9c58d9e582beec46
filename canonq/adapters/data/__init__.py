"""The data of apps: archives, snapshots, artifacts, markers."""
