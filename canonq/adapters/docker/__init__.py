"""Docker Engine and Swarm, one module for each of the ports that `canonq.adapters.engine` keeps together."""
