"""Git: clones, trees, histories and mirrors, and how the program is started."""
