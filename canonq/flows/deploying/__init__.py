"""From a version's tree to an app that is up and answers."""
