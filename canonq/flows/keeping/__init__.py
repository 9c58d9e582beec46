"""What stays on a host, and what goes: canonicals' data, room on its disks, leftovers."""
