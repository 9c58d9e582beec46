"""Whose fault it is when Docker says no: one table of what its engines and its command say, in the order it is tried. Pure.

Only what is known to be the recipe's makes a red. A text that no row knows is nobody's red: it is an error, it is tried again,
and it stays an error (docs/decisions/0019-whose-fault.md).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from canonq.core.errors import CanonqError, HostProblem, RecipeProblem
from canonq.core.text import ending

#: The code of a text that no row knows.
UNKNOWN = "docker-unknown"


@dataclass(frozen=True)
class Pattern:
    """One thing that Docker says, and what it means."""

    text: str  #: a regular expression, in lower case
    code: str
    kind: type[CanonqError]  #: whose fault it is
    mend: str
    final: bool = False  #: said of a task, it means that no later task will do better

    def found_in(self, said: str) -> bool:
        """Whether `said`, in lower case, shows it."""
        return re.search(self.text, said) is not None


_GONE = "the image is not in its registry for anybody; ask the recipe to correct the name or the tag."
_SHAPE = "correct the compose file; the message names the place."

PATTERNS: tuple[Pattern, ...] = (
    # What canonq's host must have, and what is in its way.
    Pattern(r"permission denied while trying to connect to the docker", "docker-unreachable", HostProblem,
            "Docker runs, and this user may not speak with it: `usermod --append --groups docker USER`, then log in again, or "
            "start the service again."),
    Pattern(r"cannot connect to the docker daemon|error during connect|connect to the docker (daemon|api)", "docker-unreachable",
            HostProblem, "start Docker."),
    Pattern(r"client version .* is too (new|old)", "docker-api", HostProblem,
            "the docker command and the Engine are too far apart in age; install those of one release."),
    Pattern(r"authentication handshake failed: x509", "no-swarm", HostProblem,
            "the swarm's own certificates have run out, or the clock is wrong; Docker's log tells. "
            "`docker swarm init --force-new-cluster --advertise-addr ADDRESS` makes it again and keeps its stacks."),
    Pattern(r"is not a swarm manager|swarm does not have a leader|swarm is encrypted", "no-swarm", HostProblem,
            "run `docker swarm init`, or unlock the swarm."),
    Pattern(r"sysctl [^\n]*not in a separate kernel namespace", "cannot-start", RecipeProblem,
            "the release sets a sysctl that is the whole host's, which no container may: take it out, or ask operators for it.",
            final=True),
    # A release that mounts into a folder of its own that is read-only is told by the runtime, not by Docker.
    Pattern(r"error mounting .* to rootfs .*read-only file system", "mount-invalid", RecipeProblem,
            "the release mounts into a volume or folder that it has mounted read-only.", final=True),
    Pattern(r"read-only file system", "disk-read-only", HostProblem,
            "Docker's disk has become read-only: `dmesg` says why. Check it, `mount -o remount,rw` it, and restart Docker.",
            final=True),
    Pattern(r"(failed to register layer|/var/lib/(docker|containerd)/|writing? layer|extract(ing)? layer|to rootfs)[^\n]*"
            r"(input/output error|structure needs cleaning|stale (nfs )?file handle)", "disk-broken", HostProblem,
            "Docker's disk gives errors: `dmesg` and SMART (`smartctl -a`) say more. Look at it before anything else is written.",
            final=True),
    Pattern(r"create session key", "host-exhausted", HostProblem,
            "the kernel gives Docker no more keys: raise the sysctls `kernel.keys.root_maxkeys` and `maxkeys`; in an LXC "
            "container, on its host."),
    Pattern(r"/sys/fs/cgroup/[^\n]*no space left on device", "host-exhausted", HostProblem,
            "the kernel takes no more control groups, though its disk has room: those of dead containers are left over "
            "(`cat /proc/cgroups`); restart the host."),
    Pattern(r"no space left on device|disk quota exceeded", "disk-full", HostProblem, "free some disk.", final=True),
    Pattern(r"no chain/target/match by that name|failed to setup ip tables", "firewall-flushed", HostProblem,
            "the firewall rules that Docker made are gone, as after `iptables -F` or a restart of firewalld or ufw; "
            "`systemctl restart docker` makes them again."),
    Pattern(r"vxlan interface: file exists", "network-broken", HostProblem,
            "a device of a network that is gone was left behind: remove the stack's network and deploy again, or start the host "
            "anew."),
    Pattern(r"failed to create endpoint [^\n]*not found", "network-broken", HostProblem,
            "a network was removed while something was started in it: deploy again; where it comes back, restart Docker."),
    Pattern(r"network [^ ]+ is ambiguous", "network-broken", HostProblem,
            "Docker has two networks of one name: `docker network ls --no-trunc` shows both; remove the one that nothing is in, "
            "by its id."),
    Pattern(r"same bridge name", "network-broken", HostProblem,
            "two networks want one bridge: `docker network ls` shows docker_gwbridge twice; remove one by its id, and start "
            "Docker anew."),
    Pattern(r"pair interfaces: |error creating vxlan|can't initialize ip6?tables table", "network-broken", HostProblem,
            "the kernel gives Docker no network devices: after an update of the kernel, restart the host; else "
            "`modprobe` veth, bridge, vxlan and iptable_nat."),
    Pattern(r"applying cgroup configuration|apply cgroup configuration|apparmor failed to apply|cgroup mountpoint does not exist|"
            r"cannot find cgroup mount destination|mountpoint for devices not found|"
            r"mounting \"(proc|sysfs|cgroup2?|devpts|mqueue)\" to rootfs|loading seccomp filter|seccomp not supported|"
            r"sysctl [a-z0-9_.]+ file: .*permission denied|can't get final child's pid|"
            r"mounting \"[^\"]*\" to rootfs [^\n]*(operation not permitted|permission denied|no such device)", "runtime-broken",
            HostProblem,
            "Docker's own runtime does not work on this host (cgroups, AppArmor, seccomp): `docker run --rm IMAGE true` shows it "
            "too; restart Docker, the host after updates; `journalctl -u docker -u containerd` says more. Where that is an "
            "LXC container, its own host says what it may do."),
    Pattern(r"fork/exec [^ ]*: resource temporarily unavailable", "host-exhausted",
            HostProblem, "the host gives Docker no more processes: look what takes them (`ps -eLf | wc -l`), and at TasksMax and "
            "`kernel.pid_max`."),
    Pattern(r"fork/exec [^ ]*: cannot allocate memory", "host-exhausted", HostProblem,
            "the host has no memory left to start a program of Docker's own: look what takes it."),
    Pattern(r"unable to retrieve oci runtime error|failed to start shim|container failed: exec: \"docker-init\"",
            "runtime-broken", HostProblem,
            "a program of Docker's own is not there or does not run (runc, containerd's shim, docker-init): the message names "
            "it; install Docker's packages again."),
    # What an image lacks, the runtime says of the container's process; without it, Docker speaks of a program of its own.
    Pattern(r"(?s)^(?!.*(?:container process|container_linux)).*"
            r"(?:error getting credentials|exec: \"[^\"]*(?:docker-proxy|ip6?tables[a-z-]*|nft|modprobe|unpigz|zfs|btrfs|runc|"
            r"crun|containerd[a-z0-9-]*|nvidia-[a-z-]+)\": )",
            "host-program-missing", HostProblem,
            "Docker starts a program of this host for that (a helper of its logins, iptables, docker-proxy, ...), which is not "
            "there or fails: the message names it. Install it, or take it out of Docker's configuration; the helper of logins "
            "stands in `~/.docker/config.json` (`credsStore`, `credHelpers`)."),
    Pattern(r"containerd\.sock", "runtime-broken", HostProblem,
            "containerd, which runs Docker's containers, does not answer: `systemctl restart containerd`, then `docker`."),
    Pattern(r"overlay mount [^\n]*(no such device|invalid argument|not supported|operation not permitted)", "runtime-broken",
            HostProblem,
            "this host lets Docker mount no layers over each other: `modprobe overlay`, and look at the file system below "
            "Docker's folder; in an LXC container, at what its own host allows (nesting)."),
    Pattern(r"failed to get digest|layer does not exist|error creating overlay mount|"
            r"(open|l?stat|readlink|rename|unlinkat) [^ ]*/((overlay2|aufs|imagedb|layerdb)/|tmp/getimageblob)[^ ]*: no such|"
            r"lstat [^ ]*/volumes/[^ ]*/_data: no such|"
            r"error mounting \"[^\"]*/volumes/[^\"]*/_data\" to rootfs [^\n]*no such file",
            "docker-damaged", HostProblem,
            "files of Docker's own store of images or volumes are gone, as after a power loss or a clean-up by hand: `docker "
            "rmi --force` the image and pull it again, restart Docker, and look at the disk."),
    Pattern(r"lsetxattr [^\n]*operation not supported|failed to register layer: exit status", "layer-not-unpacked", HostProblem,
            "this host cannot unpack the image: the file system of Docker's disk lacks what it needs (extended attributes), or a "
            "program for it (unpigz) does not run. `docker pull` of the same image shows it."),
    Pattern(r"cannot allocate memory|resource temporarily unavailable|too many open files", "host-exhausted", HostProblem,
            "the host has run out of memory, processes or files; look what takes them."),
    Pattern(r"setting rlimit[^\n]*operation not permitted", "host-limits", HostProblem,
            "the release asks for higher `ulimits` than this host may give: raise `fs.nr_open` where it is `nofile`; in an LXC "
            "container, on its host.", final=True),
    Pattern(r"bind source path does not exist", "host-path-missing", HostProblem,
            "the release is given a path of this host (one under [mounts] keep, or what is the same everywhere, such as "
            "/etc/localtime), and this host has none: make it, or take it out of [mounts] keep.", final=True),
    Pattern(r"non-overlapping ipv4 address pool|address pools have been fully subnetted|pool overlaps with other one|"
            r"addresses may be exhausted", "addresses-used-up",
            HostProblem, "Docker has no addresses left for another network; remove networks, or widen default-address-pools."),
    Pattern(r"could not find an available ip|no available (ip|ipv4|ipv6) addresses", "addresses-used-up", HostProblem,
            "a network has no address left; see which with `docker network inspect --verbose`, and make it again, larger."),
    Pattern(r"failed to initialize logging driver: .*(dial|lookup|timeout|refused)", "log-driver-away", HostProblem,
            "the release logs to a program that this host does not run, or not there; start it, or set `logging` in "
            "compose.canonq.yml."),
    Pattern(r"insufficient resources on|range of cpus is from", "host-too-small", HostProblem,
            "no node has the memory or processors that the release reserves; give the host more, or lower the reservation.",
            final=True),
    Pattern(r"host-mode port already in use|is already in use by service .* as an? (ingress|host-published) port|"
            r"port is already allocated", "port-taken", HostProblem, "another app has the port; stop it.", final=True),
    Pattern(r"(bind|listen|host port)\b.*address already in use", "port-taken", HostProblem,
            "another program has the port; stop it."),
    Pattern(r"address already in use", "addresses-used-up", HostProblem,
            "a network's address is still held, mostly by one that was not removed whole: `docker network ls`, remove it, or "
            "restart Docker."),
    Pattern(r"missing plugin on|plugin \"[^\"]*\" not found", "plugin-missing", HostProblem,
            "install the plugin of Docker that the release asks for.", final=True),
    Pattern(r"no suitable node \([^)]*not available for new tasks", "node-unavailable", HostProblem,
            "a node is drained, paused or down: `docker node ls`, then `docker node update --availability active NODE`.",
            final=True),
    Pattern(r"no suitable node", "no-node-fits", HostProblem,
            "this host does not fulfil what the release asks of a node; `docker node inspect self` shows its labels and state.",
            final=True),
    Pattern(r"declared as external, but it is not in the right scope", "network-scope", HostProblem,
            "a network of that name is there, but for this host alone; make it again with `docker network create -d overlay`."),
    Pattern(r"declared as external, but could not be found", "network-missing", HostProblem,
            "the recipe expects an external network that this host does not have; make it."),
    Pattern(r"(config|secret) not found: ", "config-missing", HostProblem,
            "the recipe expects an external config or secret that this host does not have; make it."),
    Pattern(r"only updates to labels are allowed", "config-not-bumped", RecipeProblem,
            "the release changes a config or secret without a new *_VERSION in abra.sh; bump it and tag again."),
    Pattern(r"already exists|alreadyexists|is already in use by container", "leftovers", HostProblem, "run `canonq janitor`."),
    Pattern(r"code = (unavailable|deadlineexceeded)|update out of sequence|transport is closing|"
            r"message larger than max|raft message is too large", "docker-busy", HostProblem,
            "the swarm was too busy to answer; look at the host's load and disk."),
    # Known to be the recipe's: the image is there for nobody.
    Pattern(r"pull access denied", "image-unavailable", RecipeProblem,
            "its registry shows the image to nobody who is not logged in: correct its name, or log the Engine in.", final=True),
    Pattern(r"manifest unknown|\bname unknown|manifest for .* not found|repository .* not found|"
            r"failed to resolve reference \"[^\"]*\": [^ ]+: not found|no such image", "image-unavailable", RecipeProblem, _GONE,
            final=True),
    Pattern(r"no matching manifest for|no match for platform|does not match the (specified|expected) platform|"
            r"cannot be used on this platform",
            "image-unavailable", RecipeProblem, "the image is not made for this kind of machine.", final=True),
    Pattern(r"schema 1 support (has been removed|is disabled)|unsupported manifest format|unsupported media type|"
            r"unsupported schema version",
            "image-unavailable", RecipeProblem, "the image has a form that this Docker does not read any more.", final=True),
    Pattern(r"invalid (image )?reference|is not a valid repository/tag|no image specified", "image-name-invalid", RecipeProblem,
            "correct `image` in the compose file, or the variable it is filled in from.", final=True),
    # Known to be the recipe's: what it asks of Docker. Before registries: a command may be called certificate-exporter.
    Pattern(r"invalid mount config|invalid (bind |volume )?mount (source|target)|duplicate mount point", "mount-invalid",
            RecipeProblem, "the release mounts what is not there, or where nothing can be mounted.", final=True),
    Pattern(r"source [^ ]*/merged/[^ ]* is not (a )?directory", "mount-invalid", RecipeProblem,
            "the release mounts a volume where its image has a file; the message ends with the place.", final=True),
    Pattern(r"executable file (`[^`]*` )?not found|exec format error|exec: \"[^\"]*\": .*no such file or directory",
            "cannot-start", RecipeProblem, "the image lacks the command, or is for another kind of machine.", final=True),
    Pattern(r"exec: \"[^\"]*\": (is a directory: )?permission denied", "cannot-start", RecipeProblem,
            "what is to be started may not be run: `mode: 0555` where it is a config, `chmod +x` where it is in the image.",
            final=True),
    Pattern(r"container init was oom-killed", "out-of-memory", RecipeProblem,
            "not even its start has room in the memory it may have.", final=True),
    Pattern(r"unable to find (user|group)|no matching entries in (passwd|group) file|unknown capability|"
            r"working directory .* is invalid|chdir to cwd|mkdir [^ ]*: not a directory|mounting \"[^\"]*\" to rootfs|"
            r"sysctl .*(no such file|invalid argument)|open /proc/sys/[^ ]*: no such file|"
            r"setting rlimit|wrong rlimit value|sethostname: |invalid ip address in add-host|invalid signal: |"
            r"unknown log opt|initialize logging driver: (invalid|[^\n]*is expected)|"
            r"uids and gids must be in range|invalid isolation|strconv\.(atoi|parseu?int): |ulimit soft limit must be|"
            r"in healthcheck cannot be|no log driver named|"
            r"invalid environment variable|failed to expand templated", "cannot-start", RecipeProblem,
            "the release's container cannot be made as it asks; the message names what.", final=True),
    Pattern(r"minimum memory limit allowed", "cannot-start", RecipeProblem,
            "Docker starts nothing with so little: `memory` under deploy.resources.limits has to be 6M or more.", final=True),
    # Of a registry: everything else.
    Pattern(r"toomanyrequests|too many requests|(: |http )429\b|pull rate limit", "registry-rate-limit", HostProblem,
            "wait, or log the Engine in to the registry.", final=True),
    Pattern(r"x509|\btls: |server gave http response to https client|certificate", "registry-certificate", HostProblem,
            "the registry's certificate is not trusted here; look at it, at the clock, or at Docker's insecure-registries."),
    Pattern(r"no such host|i/o timeout|connection refused|network is unreachable|no route to host|host is down|"
            r"connection timed out|timeout awaiting|tls handshake timeout|client\.timeout exceeded|name resolution|"
            r"server misbehaving|https?://.*(context deadline exceeded|context canceled)", "registry-unreachable",
            HostProblem, "the registry cannot be reached; check the network and its name."),
    Pattern(r"proxy authentication required|proxyconnect", "registry-unreachable", HostProblem,
            "the HTTP proxy that Docker goes through refuses it, or is not there: `docker info` shows which it is."),
    Pattern(r"unauthorized|authentication required|no basic auth credentials|authorization failed|forbidden|"
            r"error parsing http 40[13]|: denied\b|access denied", "registry-refused", HostProblem,
            "log the Engine in to the registry."),
    Pattern(r"(: |http )5[0-9][0-9]\b|connection reset by peer|broken pipe|\beof\b|unexpected (http )?status|error parsing http|"
            r"error unmarshalling content|layer verification failed|malformed http response", "registry-unavailable", HostProblem,
            "the registry is in trouble, or something else answers in its place; its own status page may say more."),
    # What is left to the recipe.
    Pattern(r"non-zero exit|unhealthy container", "not-healthy", RecipeProblem, "its log says more."),
    Pattern(r"characters allowed|must be 63 characters or fewer|valid as a dns name component", "name-too-long", RecipeProblem,
            "shorten the name of the config, secret or service."),
    Pattern(r"does not match format 'duration'", "compose-invalid", RecipeProblem, "write durations as literals, such as 30s."),
    Pattern(r"additional property .* is not allowed|does not match (format|any of)|is not valid [a-z]+: |must be an? [a-z]+|"
            r"invalid type|decoding failed|cannot parse '|yaml: |undefined (network|volume|config|secret) \"|"
            r"unsupported compose file version|contains unsupported options|unknown mode: |duplicate (config|secret) target|"
            r"test and disable can't be set|error while interpolating|invalid interpolation|"
            r"constraint expected|cannot be used with services|can only be used with replicated|"
            r"(invalid|unknown) restart policy|failed to parse [^ ]* as a rational|value is too precise|"
            r"invalid (credential spec|restartcondition|subnet|ip range|gateway)|unrecognized update", "compose-invalid",
            RecipeProblem, _SHAPE),
    Pattern(r"code = invalidargument", "deploy-refused", RecipeProblem, _SHAPE),
)  # fmt: skip

_MOST_SAID, _LONGEST_LINE = 64 << 10, 4 << 10  #: characters of what Docker says that are looked at, and of each line of it
_AGAIN = 2  #: failures of the host's behind the last end of a container, which a port that its own one still held does not make
_ENDED = "not-healthy"  #: the code of a container that ended by itself, or that its health check ended
#: What stands for a recipe's own word where rows are looked for.
_NAME = "<name>"
#: What the runtime quotes of a release and may have a blank in it: a command, a user, a place to mount at.
_COMMAND = re.compile(
    r'(?<=exec: ")[^" ]*+ [^"]*+(?=": )|(?<=unable to find user ).*(?=: )|(?<=to rootfs at ")[^" ]*+ [^"]*+(?=")'
)
#: What newer versions of Docker's command print about themselves.
_NOTICES = ("Since --detach=false", "In a future release, --detach", "Creating ", "Updating ", "Ignoring ", "Removing ")

#: Told by the files themselves or by Docker's reading of them: no load of the host changes it, so trying again is vain.
CERTAIN = frozenset({
    "compose-invalid", "compose-missing", "config-not-bumped", "deploy-refused", "env-missing", "env-too-large",
    "env-unreadable", "file-too-large",
    "file-empty", "file-missing", "health-service-unknown", "image-name-invalid", "image-unavailable", "mount-invalid",
    "name-invalid", "name-too-long", "no-app-service", "not-text",
    "port-twice", "path-outside-recipe", "policy-refused", "secret-charset", "secret-length",
    "unsafe-tree", "volume-missing",
})  # fmt: skip


def known(text: str, names: Iterable[str] = ()) -> Pattern | None:
    """The first row that the text shows. `names` are the recipe's own words in it, which say nothing: see `names_of_stack`."""
    lowered = _COMMAND.sub(_NAME, _in_short(text).lower())
    for name in sorted({name.lower() for name in names if name}, key=len, reverse=True):
        lowered = lowered.replace(name, _NAME)
    return next((pattern for pattern in PATTERNS if pattern.found_in(lowered)), None)


def _in_short(text: str) -> str:
    """A text whose long lines have lost their middle, and itself its own: what a release is called there has no end of its own,
    and rows look at a line from each place that may begin what they know."""
    lines = text if len(text) <= _MOST_SAID else f"{text[: _MOST_SAID // 2]}\n{text[-_MOST_SAID // 2 :]}"
    return "\n".join(
        line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
        for line in lines.split("\n")
    )


def worst(texts: list[str]) -> Pattern | None:
    """What several texts of one failure, the newest first, show together: what is known to be the recipe's, else the host's.

    That a container ended is the recipe's too, but says not why: where the host then failed again and again, it is the host's.
    """
    found = [pattern for text in texts if (pattern := known(text)) is not None]
    recipes = [pattern for pattern in found if issubclass(pattern.kind, RecipeProblem)]
    if said := next((pattern for pattern in recipes if pattern.code != _ENDED), None):
        return said
    since = list(itertools.takewhile(lambda pattern: pattern.code != _ENDED, found))
    return next(iter(recipes if len(since) < _AGAIN else since), next(iter(found), None))


def names_of_stack(stack: str, keys: Iterable[str]) -> Iterator[str]:
    """In which words Docker speaks of what is in a stack: a recipe may call it what it likes."""
    for key in keys:
        yield from (f"{stack}_{key}", f"services.{key}", f"service {key}:", f'"{key}"', f"'{key}'")


def names_of_image(reference: str) -> Iterator[str]:
    """In which words Docker speaks of an image: as it is written, without its tag, and the host that it is on."""
    path, _, last = reference.partition("@")[0].rpartition("/")
    bare = f"{path}/{last.partition(':')[0]}".lstrip("/")
    host = bare.partition("/")[0]
    yield from (reference, bare, *([f"{host}/", f"lookup {host} "] if "." in host or ":" in host else []))


def deploy_problem(output: str, what: str, *, default: str = UNKNOWN, names: Iterable[str] = ()) -> CanonqError:
    """Turn what a Docker command printed into the error to raise; `default` is the code of what no row knows."""
    lines = (line.strip() for line in output.splitlines() if line.strip() and not line.startswith(_NOTICES))
    said = ending(" ".join(lines), 500)
    if found := known(output, names):
        return found.kind(f"{what} failed: {said}.", mend=found.mend, code=found.code)
    return unknown(f"{what} failed, in words that canonq does not know: {said or 'none at all'}.", default)


def unknown(what: str, code: str = UNKNOWN) -> HostProblem:
    """The error for words that no row knows: nobody's red."""
    return HostProblem(what, mend="nothing is held against the release; look at Docker's log, and report the words.", code=code)
