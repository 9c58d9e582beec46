# ruff: noqa: E501 - the texts stand as the engines print them
"""Whose fault it is, by what real engines say: Docker 20.10.24, 28.5 and 29, and its command from 20.10 to 29."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.blame import CERTAIN, PATTERNS, Pattern, deploy_problem, known, names_of_image, names_of_stack, worst
from canonq.core.errors import CanonqError, HostProblem, RecipeProblem

HUB = "registry-1.docker.io"
ERR = "Error response from daemon: "
RPC = f"failed to create service s_app: {ERR}rpc error: code = InvalidArgument desc = "
OCI = (
    "starting container failed: failed to create shim task: OCI runtime create failed: runc create failed: unable to start "
    "container process: "
)
INIT = f"{OCI}error during container init: "
OLD_INIT = (
    "starting container failed: OCI runtime create failed: container_linux.go:380: starting container process caused: "
    "process_linux.go:545: container init caused: "
)
HEAD = (
    'failed to resolve reference "docker.io/library/app:1": unexpected status from HEAD request to https://r.example.org/v2/app'
)

#: What an engine said, the code, and whether it is the recipe's.
SAID: Sequence[tuple[str, str, bool]] = [
    # Pulls: the image is there for nobody.
    (f"{ERR}manifest for nginx:none not found: manifest unknown: manifest unknown", "image-unavailable", True),
    (f"{ERR}manifest unknown", "image-unavailable", True),
    (f"{ERR}name unknown", "image-unavailable", True),
    (f"{ERR}repository r.example.org/app not found: name unknown", "image-unavailable", True),
    (f"{ERR}pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the "
     "resource is denied", "image-unavailable", True),
    ("no matching manifest for linux/amd64 in the manifest list entries", "image-unavailable", True),
    (f'{ERR}failed to resolve reference "127.0.0.1:5000/app:1": 127.0.0.1:5000/app:1: not found', "image-unavailable", True),
    (f"{ERR}no matching manifest for linux/amd64 in the manifest list entries: no match for platform in manifest: not found",
     "image-unavailable", True),
    ("Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed.", "image-unavailable", True),
    ("Error: No such image: nginx:none", "image-unavailable", True),
    ("invalid reference format: repository name (H2/App) must be lowercase", "image-name-invalid", True),
    ("invalid reference format", "image-name-invalid", True),
    ("invalid image reference for service app: no image specified", "image-name-invalid", True),
    # Pulls: everything else.
    (f"{ERR}toomanyrequests: You have reached your pull rate limit.", "registry-rate-limit", False),
    (f'{ERR}error parsing HTTP 429 response body: invalid character: "slow down"', "registry-rate-limit", False),
    (f'{ERR}Head "http://127.0.0.1:1/v2/app/manifests/1": error parsing HTTP 429 response body: no error details found in HTTP '
     'response body: "{}"', "registry-rate-limit", False),
    (f"{ERR}{HEAD}/manifests/1: 429 Too Many Requests", "registry-rate-limit", False),
    (f'{ERR}failed to resolve reference "x:1": failed to authorize: failed to fetch oauth token: unexpected status from POST request '
     "to https://auth.docker.io/token: 429 Too Many Requests", "registry-rate-limit", False),
    (f"{ERR}unauthorized", "registry-refused", False),
    (f"{ERR}denied", "registry-refused", False),
    (f'{ERR}Head "https://ghcr.io/v2/x/manifests/1": unauthorized: authentication required', "registry-refused", False),
    (f'{ERR}error parsing HTTP 403 response body: invalid character "<" looking for beginning of value', "registry-refused", False),
    (f"{ERR}{HEAD}/manifests/1: 401 Unauthorized", "registry-refused", False),
    (f"{ERR}{HEAD}/manifests/1: 403 Forbidden", "registry-refused", False),
    (f'{ERR}failed to resolve reference "x:1": pull access was refused: no basic auth credentials', "registry-refused", False),
    (f"{ERR}received unexpected HTTP status: 500 Internal Server Error", "registry-unavailable", False),
    (f"{ERR}received unexpected HTTP status: 502 Bad Gateway", "registry-unavailable", False),
    (f"{ERR}{HEAD}/manifests/1: 503 Service Unavailable", "registry-unavailable", False),
    (f"{ERR}{HEAD}/manifests/1: 504 Gateway Timeout", "registry-unavailable", False),
    (f'{ERR}error parsing HTTP 404 response body: invalid character "p" after top-level value: "404 page not found\\n"',
     "registry-unavailable", False),
    (f"{ERR}error unmarshalling content: invalid character '<' looking for beginning of value", "registry-unavailable", False),
    (f'{ERR}Get "http://127.0.0.1:41523/v2/": EOF', "registry-unavailable", False),
    (f'{ERR}Get "http://127.0.0.1:1/v2/": read tcp 127.0.0.1:57502->127.0.0.1:41429: read: connection reset by peer',
     "registry-unavailable", False),
    (f'{ERR}Get "https://{HUB}/v2/": dial tcp: lookup {HUB}: no such host', "registry-unreachable", False),
    (f'{ERR}Get "https://{HUB}/v2/": dial tcp 1.2.3.4:443: i/o timeout', "registry-unreachable", False),
    (f'{ERR}Get "http://localhost:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused', "registry-unreachable", False),
    (f'{ERR}Get "https://{HUB}/v2/": dial tcp: lookup {HUB} on 10.255.255.53:53: dial udp 10.255.255.53:53: connect: network is '
     "unreachable", "registry-unreachable", False),
    (f'{ERR}Get "https://{HUB}/v2/": net/http: TLS handshake timeout', "registry-unreachable", False),
    (f'{ERR}Get "http://127.0.0.1:41885/v2/": net/http: request canceled (Client.Timeout exceeded while awaiting headers)',
     "registry-unreachable", False),
    (f'{ERR}Get "https://{HUB}/v2/": context deadline exceeded', "registry-unreachable", False),
    (f'{ERR}failed to resolve reference "x/app:1": failed to do request: Head "https://x/v2/app/manifests/1": net/http: timeout '
     "awaiting response headers", "registry-unreachable", False),
    (f'{ERR}failed to resolve reference "x/app:1": failed to do request: Head "https://x/v2/app/manifests/1": EOF',
     "registry-unavailable", False),
    (f'{ERR}failed to resolve reference "x/app:1": failed to do request: Head "https://x/v2/app/manifests/1": tls: failed to verify '
     "certificate: x509: certificate has expired or is not yet valid", "registry-certificate", False),
    (f'{ERR}Get "https://r.example.org/v2/": lookup r.example.org: Temporary failure in name resolution',
     "registry-unreachable", False),
    (f'{ERR}Get "https://10.9.9.9:34863/v2/": x509: certificate has expired or is not yet valid', "registry-certificate", False),
    (f'{ERR}Get "https://10.9.9.9:37665/v2/": tls: first record does not look like a TLS handshake', "registry-certificate", False),
    (f'{ERR}Get "https://10.9.9.9:1/v2/": http: server gave HTTP response to HTTPS client', "registry-certificate", False),
    ("failed to register layer: write /usr/lib/x: no space left on device", "disk-full", False),
    # The deploy: what the operator must provide, and what is in its way.
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "docker-unreachable", False),
    ("failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if the daemon is running",
     "docker-unreachable", False),
    (f"{ERR}client version 1.41 is too old. Minimum supported API version is 1.44", "docker-api", False),
    ('this node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again',
     "no-swarm", False),
    ('network "proxy" is declared as external, but could not be found. You need to create a swarm-scoped network before the stack '
     "can be deployed", "network-missing", False),
    ('network "proxy" is declared as external, but it is not in the right scope: "local" instead of "swarm"', "network-scope", False),
    ("service app: config not found: site_index", "config-missing", False),
    ("service app: secret not found: site_password", "config-missing", False),
    (f"failed to create network s_n: {ERR}plugin \"weave\" not found", "plugin-missing", False),
    (f"failed to create network s_n: {ERR}could not find an available, non-overlapping IPv4 address pool among the defaults to "
     "assign to the network", "addresses-used-up", False),
    (f"{RPC}port '18999' is already in use by service 'live_app' (w6qw5mao6u5uvlxzm8gzbe0vr) as an ingress port", "port-taken", False),
    (f"{RPC}port '22' is already in use by service 'live_app' (w6qw5mao6u5uvlxzm8gzbe0vr) as a host-published port",
     "port-taken", False),
    (f"failed to create config s_conf: {ERR}config s_conf already exists", "leftovers", False),
    (f"failed to create service s_app: {ERR}rpc error: code = AlreadyExists desc = name conflicts with an existing object",
     "leftovers", False),
    (f"failed to update service s_app: {ERR}rpc error: code = Unavailable desc = transport is closing", "docker-busy", False),
    # The host's own parts, whatever was asked.
    ("failed to register layer: mkdir /var/lib/docker/tmp/x: read-only file system", "disk-read-only", False),
    (f"{ERR}error creating overlay mount to /var/lib/docker/overlay2/x/merged: read-only file system", "disk-read-only", False),
    (f"failed to create network s_n: {ERR}Failed to Setup IP tables: Unable to enable SKIP DNAT rule:  (iptables failed: iptables "
     "--wait -t nat -I DOCKER -i br-1 -j RETURN: iptables: No chain/target/match by that name.", "firewall-flushed", False),
    ("driver failed programming external connectivity on endpoint s_app.1 (f00): (iptables failed: iptables --wait -t nat -A DOCKER: "
     "iptables: No chain/target/match by that name.)", "firewall-flushed", False),
    ("starting container failed: failed to create endpoint x on network bridge: failed to create the host (veth1) <=> sandbox (veth2) "
     "pair interfaces: operation not supported", "network-broken", False),
    ("network sandbox join failed: subnet sandbox join failed for \"10.0.1.0/24\": error creating vxlan interface: operation not "
     "supported", "network-broken", False),
    ("starting container failed: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
     "process: unable to apply cgroup configuration: mkdir /sys/fs/cgroup/memory/docker/x: cannot allocate memory",
     "runtime-broken", False),
    ("starting container failed: OCI runtime create failed: container_linux.go:380: starting container process caused: process_linux."
     "go:385: applying cgroup configuration for process caused: cannot enter cgroupv2 \"/sys/fs/cgroup/docker\" with domain "
     "controllers -- it is in an invalid state", "runtime-broken", False),
    ("cgroups: cgroup mountpoint does not exist: unknown", "runtime-broken", False),
    # From reports of people.
    ("all predefined address pools have been fully subnetted", "addresses-used-up", False),
    ("error creating external connectivity network: all predefined address pools have been fully subnetted", "addresses-used-up",
     False),
    ("failed to register layer: write /usr/lib/libx.so: input/output error", "disk-broken", False),
    (f"{INIT}error mounting \"/dev/sdb\" to rootfs at \"/srv\": mount /dev/sdb:/srv, flags: 0x1000: input/output error: unknown",
     "disk-broken", False),
    (f"{INIT}error mounting \"/mnt/nfs\" to rootfs at \"/srv\": stat /mnt/nfs: stale NFS file handle: unknown", "disk-broken", False),
    (f"{INIT}error mounting \"/mnt/x\" to rootfs at \"/srv\": mount /mnt/x:/srv (via /proc/self/fd/6), flags: 0x5000: permission "
     "denied: unknown", "runtime-broken", False),
    (f"{OCI}can't get final child's PID from pipe: EOF: unknown", "runtime-broken", False),
    ("starting container failed: error creating overlay mount to /var/lib/docker/overlay2/9d/merged: no such device",
     "runtime-broken", False),
    ("starting container failed: failed to start shim: fork/exec /usr/bin/containerd-shim-runc-v2: cannot allocate memory: unknown",
     "host-exhausted", False),
    (f'{ERR}Get "https://registry.example/v2/": Proxy Authentication Required', "registry-unreachable", False),
    (f'{ERR}Get "https://registry.example/v2/": proxyconnect tcp: EOF', "registry-unreachable", False),
    (f'{OCI}open /proc/sys/vm/x: read-only file system: sysctl "vm.x" is not in a separate kernel namespace', "cannot-start", True),
    ("starting container failed: failed to create the epoll: too many open files", "host-exhausted", False),
    # Programs of the host's own, which no image lacks.
    ('error getting credentials - err: exec: "docker-credential-pass": executable file not found in $PATH, out: ``',
     "host-program-missing", False),
    ('Error starting userland proxy: exec: "docker-proxy": executable file not found in $PATH', "host-program-missing", False),
    (f'failed to create network s_n: {ERR}failed to find iptables: exec: "iptables": executable file not found in $PATH',
     "host-program-missing", False),
    (f'starting container failed: {OCI}exec: "iptables": executable file not found in $PATH: unknown', "cannot-start", True),
    ("starting container failed: executable file `nope` not found in $PATH: No such file or directory: OCI runtime attempted to "
     "invoke a command that was not found", "cannot-start", True),
    # What a release calls its programs is no word of a registry's.
    (f'{OCI}exec: "/x509-certificate-exporter": stat /x509-certificate-exporter: no such file or directory: unknown',
     "cannot-start", True),
    (f'starting container failed: {OCI}exec: "no space left on device": executable file not found in $PATH: unknown',
     "cannot-start", True),
    ("starting container failed: unable to find user certificate: no matching entries in passwd file", "cannot-start", True),
    ('starting container failed: strconv.Atoi: parsing "www": invalid syntax', "cannot-start", True),
    ("Interval in Healthcheck cannot be less than 1ms", "cannot-start", True),
    ("ulimit soft limit must be less than or equal to hard limit: 9 > 3", "cannot-start", True),
    ("logger: no log driver named 'json-flie' is registered", "cannot-start", True),
    ("service app: replicas can only be used with replicated or replicated-job mode", "compose-invalid", True),
    ("service app: unknown restart policy: allways", "compose-invalid", True),
    ("service app: failed to parse x as a rational number", "compose-invalid", True),
    ("service app: value is too precise", "compose-invalid", True),
    ("Error response from daemon: cannot create network 5e6a (docker_gwbridge): conflicts with network 11c2 (docker_gwbridge): "
     "networks have same bridge name", "network-broken", False),
    ("error creating vxlan interface: file exists", "network-broken", False),
    ("filesystem layer verification failed for digest sha256:97518928ae5f", "registry-unavailable", False),
    ("rpc error: code = ResourceExhausted desc = grpc: received message larger than max (4460522 vs. 4194304)", "docker-busy", False),
    ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock", "docker-unreachable",
     False),
    ("starting container failed: driver failed programming external connectivity on endpoint s_app: fork/exec "
     "/usr/bin/docker-proxy: cannot allocate memory", "host-exhausted", False),
    ("failed to start shim: fork/exec /usr/bin/containerd-shim-runc-v2: resource temporarily unavailable", "host-exhausted", False),
    ("Error response from daemon: Docker Image Format v1 and Docker Image manifest version 2, schema 1 support is disabled by "
     "default and will be removed", "image-unavailable", True),
    (f"{OCI}apparmor failed to apply profile: write /proc/self/attr/apparmor/exec: no such file or directory", "runtime-broken", False),
    (f"{INIT}open sysctl net.ipv4.ip_unprivileged_port_start file: reopen fd 8: permission denied: unknown", "runtime-broken", False),
    (f"{OCI}unable to init seccomp: error loading seccomp filter into kernel: error loading seccomp filter: errno 524: unknown",
     "runtime-broken", False),
    (f"{INIT}error loading seccomp filter into kernel: unable to fetch seccomp filter flags: unable to fetch "
     "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV bit: invalid argument", "runtime-broken", False),
    (f"{OLD_INIT}seccomp: config provided but seccomp not supported: unknown", "runtime-broken", False),
    (f"{INIT}error mounting \"proc\" to rootfs at \"/proc\": mount src=proc, dst=/proc, flags=MS_NOSUID|MS_NODEV|MS_NOEXEC: operation "
     "not permitted: unknown", "runtime-broken", False),
    (f"{OLD_INIT}rootfs_linux.go:76: mounting \"cgroup\" to rootfs at \"/sys/fs/cgroup\" caused: mountpoint for devices not found: "
     "unknown", "runtime-broken", False),
    ("starting container failed: cgroups: cannot find cgroup mount destination: unknown", "runtime-broken", False),
    ("starting container failed: OCI runtime create failed: unable to retrieve OCI runtime error (open /run/containerd/io.containerd."
     "runtime.v2.task/moby/0a/log.json: no such file or directory): exec: \"runc\": executable file not found in $PATH: unknown",
     "runtime-broken", False),
    ("starting container failed: failed to start shim: start failed: exec: \"containerd-shim-runc-v2\": executable file not found in "
     "$PATH: unknown", "runtime-broken", False),
    ("starting container failed: exec: \"docker-init\": executable file not found in $PATH", "runtime-broken", False),
    ("starting container failed: connection error: desc = \"transport: Error while dialing dial unix /run/containerd/containerd.sock: "
     "connect: connection refused\": unavailable", "runtime-broken", False),
    (f"{INIT}unable to join session keyring: unable to create session key: disk quota exceeded", "host-exhausted", False),
    (f"{OLD_INIT}join session keyring: create session key: disk quota exceeded: unknown", "host-exhausted", False),
    (f"{ERR}failed to get digest sha256:2d51: open /var/lib/docker/image/overlay2/imagedb/content/sha256/2d51: no such file or "
     "directory", "docker-damaged", False),
    ("open /var/lib/docker/tmp/GetImageBlob1967091410: no such file or directory", "docker-damaged", False),
    ('starting container failed: error evaluating symlinks from mount source "/var/lib/docker/volumes/s_data/_data": lstat '
     "/var/lib/docker/volumes/s_data/_data: no such file or directory", "docker-damaged", False),
    ('OCI runtime create failed: error mounting "/var/lib/docker/volumes/s_data/_data" to rootfs at "/srv": mount '
     "/var/lib/docker/volumes/s_data/_data:/srv (via /proc/self/fd/6), flags: 0x5000: no such file or directory: unknown",
     "docker-damaged", False),
    ("failed to register layer: ApplyLayer exit status 1 stdout: stderr: lsetxattr security.capability /usr/bin/ping: operation "
     "not supported", "layer-not-unpacked", False),
    ("failed to register layer: exit status 1: unpigz: abort: zlib version less than 1.2.3", "layer-not-unpacked", False),
    ("unable to apply cgroup configuration: mkdir /sys/fs/cgroup/cpuset/docker/0a1b: no space left on device", "host-exhausted",
     False),
    ("failed to start shim: mkdir /run/containerd/io.containerd.runtime.v2.task/moby/0a1b: no space left on device", "disk-full",
     False),
    ("(iptables failed: iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist (do you need to "
     "insmod?))", "network-broken", False),
    (f'{ERR}Get "https://a.example/v2/": net/http: HTTP/1.x transport connection broken: malformed HTTP response', "registry-unavailable",
     False),
    ("starting container failed: failed to initialize logging driver: splunk: splunk-url is expected", "cannot-start", True),
    (f"{ERR}network s_default is ambiguous (2 matches found on name)", "network-broken", False),
    (f'{ERR}image operating system "windows" cannot be used on this platform: operating system is not supported',
     "image-unavailable", True),
    ('failed to create endpoint s_app.1.x on network s_default: network id "u8x" not found', "network-broken", False),
    ("failed to register layer: open /srv/docker/aufs/layers/03e95f: no such file or directory", "docker-damaged", False),
    (f"{ERR}lstat /var/lib/docker/overlay2/dc31: no such file or directory", "docker-damaged", False),
    (f"{ERR}layer does not exist", "docker-damaged", False),
    ("starting container failed: error creating overlay mount to /var/lib/docker/overlay2/x/merged: no such file or directory",
     "docker-damaged", False),
    ("failed to allocate gateway (10.0.4.1): Address already in use", "addresses-used-up", False),
    # Of the runtime, what nobody has seen before is nobody's red.
    (f"{OCI}error running hook #0: error running hook: exit status 1, stderr: nvidia-container-cli: initialization error: unknown",
     "docker-unknown", False),
    ("rpc error: code = Unavailable desc = connection error: desc = \"transport: authentication handshake failed: x509: certificate "
     "has expired or is not yet valid\"", "no-swarm", False),
    (f"{ERR}rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online.",
     "no-swarm", False),
    # The deploy: what is known to be the recipe's.
    (f"failed to update config s_conf: {ERR}rpc error: code = InvalidArgument desc = only updates to Labels are allowed",
     "config-not-bumped", True),
    (f"failed to create config x: {ERR}rpc error: code = InvalidArgument desc = invalid config name, only 64 [a-zA-Z0-9-_.] "
     "characters allowed, and the start and end character must be [a-zA-Z0-9]", "name-too-long", True),
    (f"{RPC}name must be 63 characters or fewer", "name-too-long", True),
    ("services.app.healthcheck.interval Does not match format 'duration'", "compose-invalid", True),
    ("services.app Additional property volums is not allowed", "compose-invalid", True),
    ("service app: test and disable can't be set at the same time", "compose-invalid", True),
    ("services.app: additional property 'volums' is not allowed", "compose-invalid", True),
    ("services.app.ports.0: '99999:80' is not valid ports: invalid hostPort: 99999", "compose-invalid", True),
    ("services.app.ports: must be a list", "compose-invalid", True),
    ("decoding failed due to the following error(s): 'Deploy.Replicas' cannot parse value as 'uint64': -1 overflows uint",
     "compose-invalid", True),
    ("services.app.ports must be a list", "compose-invalid", True),
    ("decoding failed due to the following error(s): error decoding 'Deploy.Resources.Limits.memory': invalid size: 'x'",
     "compose-invalid", True),
    ('service app: undefined volume "vv"', "compose-invalid", True),
    ("unsupported Compose file version: 9.9", "compose-invalid", True),
    ("service app: Unknown mode: nosuch", "compose-invalid", True),
    # Docker is given copies that canonq has made: that one is gone is no release's.
    ("open /srv/index.html: no such file or directory", "docker-unknown", False),
    (f"failed to create service s_app: {ERR}rpc error: code = Unknown desc = constraint expected one operator from ==, !=",
     "compose-invalid", True),
    (f'failed to create service s_app: {ERR}invalid RestartCondition: "sometimes"', "compose-invalid", True),
    (f"{RPC}EndpointSpec: duplicate published ports provided", "deploy-refused", True),
    (f"{RPC}invalid memory value 1048576: Must be at least 4MiB", "deploy-refused", True),
    # Tasks.
    ("no suitable node (host-mode port already in use on 1 node)", "port-taken", False),
    ("driver failed programming external connectivity on endpoint x: Bind for 0.0.0.0:80 failed: port is already allocated",
     "port-taken", False),
    ("Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use", "port-taken", False),
    ("no suitable node (insufficient resources on 1 node)", "host-too-small", False),
    ("no suitable node (1 node not available for new tasks)", "node-unavailable", False),
    ("could not find an available IP while allocating VIP", "addresses-used-up", False),
    ("no suitable node (scheduling constraints not satisfied on 1 node)", "no-node-fits", False),
    ("no suitable node (missing plugin on 1 node)", "plugin-missing", False),
    (f"{OCI}fork/exec /proc/self/exe: resource temporarily unavailable", "host-exhausted", False),
    # A release's binds become volumes of its own; what is left is what the operator gives, or what is the same everywhere.
    ('invalid mount config for type "bind": bind source path does not exist: /etc/localtime', "host-path-missing", False),
    ('invalid mount config for type "volume": invalid mount path: \'srv\' mount path must be absolute', "mount-invalid", True),
    ("invalid mount target, must be an absolute path: v:/v", "mount-invalid", True),
    ("source /var/lib/docker/overlay2/bcf090355bb3/merged/bin/busybox is not directory", "mount-invalid", True),
    ('starting container failed: exec: "no": executable file not found in $PATH', "cannot-start", True),
    (f'starting container failed: {OCI}exec: "/docker-entrypoint.sh": permission denied: unknown', "cannot-start", True),
    (f'{OCI}exec: "/nosuch": stat /nosuch: no such file or directory: unknown', "cannot-start", True),
    ("exec /bin/app: exec format error", "cannot-start", True),
    (f'{OCI}error mounting "/x" to rootfs at "/data/y": mkdirat /var/lib/docker/overlay2/z/merged/data/y: read-only file system',
     "mount-invalid", True),
    ("starting container failed: unable to find user nosuchuser: no matching entries in passwd file", "cannot-start", True),
    ("the working directory 'relative' is invalid, it needs to be an absolute path", "cannot-start", True),
    ('invalid CapAdd: unknown capability: "CAP_NOSUCHCAP"', "cannot-start", True),
    (f"{OCI}container init was OOM-killed (memory limit too low?): unknown", "out-of-memory", True),
    (f"{OCI}exec: \"/srv\": is a directory: permission denied: unknown", "cannot-start", True),
    (f"{OCI}chdir to cwd (\"/no\") set in config.json failed: no such file or directory: unknown", "cannot-start", True),
    (f"{OCI}error mounting \"/var/lib/docker/volumes/v/_data\" to rootfs at \"/etc/passwd\": mount "
     "/var/lib/docker/volumes/v/_data:/etc/passwd (via /proc/self/fd/6), flags: 0x5000: not a directory: unknown: Are you trying to "
     "mount a directory onto a file (or vice-versa)?", "cannot-start", True),
    (f"{INIT}write sysctl key net.core.nosuch: open /proc/sys/net/core/nosuch: no such file or directory: unknown", "cannot-start",
     True),
    (f"{INIT}error setting rlimits for ready process: error setting rlimit type 7: operation not permitted: unknown", "host-limits",
     False),
    (f"{INIT}error setting rlimits for ready process: error setting rlimit type 7: invalid argument: unknown", "cannot-start", True),
    ("Minimum memory limit allowed is 6MB", "cannot-start", True),
    (f"starting container failed: {OCI}wrong rlimit value: RLIMIT_NOFILES: unknown", "cannot-start", True),
    (f"starting container failed: {INIT}sethostname: invalid argument: unknown", "cannot-start", True),
    (f"starting container failed: {INIT}open /proc/sys/net/core/nosuch: no such file or directory: unknown", "cannot-start", True),
    ('invalid IP address in add-host: "999.1.1.1"', "cannot-start", True),
    ("Invalid signal: SIGFOO", "cannot-start", True),
    ("unknown log opt 'max-sizes' for json-file log driver", "cannot-start", True),
    ("starting container failed: failed to initialize logging driver: invalid size: 'lots'", "cannot-start", True),
    ("starting container failed: failed to initialize logging driver: dial tcp 127.0.0.1:24224: connect: connection refused",
     "log-driver-away", False),
    ("failed to initialize logging driver: gelf: dial udp: lookup logs.example.org on 127.0.0.11:53: no such host",
     "log-driver-away", False),
    ("failed to initialize logging driver: dial unix /run/fluent.sock: i/o timeout", "log-driver-away", False),
    ("starting container failed: uids and gids must be in range 0-2147483647", "cannot-start", True),
    ("invalid isolation 'hyperv' on linux", "cannot-start", True),
    ("invalid environment variable: =x", "cannot-start", True),
    ("starting container failed: unable to get config from config store: failed to expand templated config q5ayhuvprk8t53hdz8g1o8rin: "
     "template: expansion:1: unclosed action", "cannot-start", True),
    ("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "host-too-small", False),
    (f"failed to create service s_app: {ERR}The network s_sub cannot be used with services. Only networks scoped to the swarm can be "
     "used, such as those created with the overlay driver.", "compose-invalid", True),
    ("task: non-zero exit (1)", "not-healthy", True),
    ("task: non-zero exit (137): dockerexec: unhealthy container", "not-healthy", True),
]  # fmt: skip


def problem(output: str) -> CanonqError:
    return deploy_problem(output, "`docker stack deploy` of s")


@pytest.mark.parametrize(("said", "code", "recipes"), SAID, ids=[str(number) for number in range(len(SAID))])
def test_what_docker_says_finds_whose_fault_it_is(said: str, code: str, recipes: bool) -> None:
    found = problem(f"Creating network s_default\nCreating service s_app\n{said}\n")
    assert (found.code, type(found)) == (code, RecipeProblem if recipes else HostProblem), said
    assert found.mend
    assert said[-300:] in found.what


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.text[:30])
def test_every_row_and_every_choice_in_it_is_found_in_what_an_engine_said(pattern: Pattern) -> None:
    assert pattern in [known(said) for said, *_ in SAID]
    assert pattern.text == pattern.text.lower()


def test_a_code_has_one_party() -> None:
    parties: dict[str, set[type[CanonqError]]] = {}
    for pattern in PATTERNS:
        parties.setdefault(pattern.code, set()).add(pattern.kind)
    assert all(len(kinds) == 1 for kinds in parties.values()), parties


def test_what_no_second_try_can_change_is_never_the_hosts() -> None:
    assert {pattern.code for pattern in PATTERNS if pattern.kind is HostProblem} & CERTAIN == set()


@given(st.text())
def test_words_that_nobody_knows_are_nobodys_red(said: str) -> None:
    found = problem(said)
    assert known(said) is not None or (type(found), found.code) == (HostProblem, "docker-unknown")


def test_unknown_words_are_kept_to_their_last_lines() -> None:
    found = problem("\n".join(f"line {number}" for number in range(200)))
    assert found.code == "docker-unknown"
    assert found.what.endswith("line 198 line 199.")
    assert len(found.what) < 600


@pytest.mark.parametrize(
    "reference", ["app:429", "app:500", "127.0.0.1:50503/app:1", "r.example.org:502/app:503", "eof:1", "denied:1"]
)
def test_a_name_that_looks_like_a_status_means_nothing(reference: str) -> None:
    said = f'{ERR}failed to resolve reference "{reference}": failed to do request: Head "https://r/v2/": dial tcp: no such host'
    assert problem(said).code == "registry-unreachable"
    assert problem(f'{ERR}failed to resolve reference "{reference}": {reference}: not found').code == "image-unavailable"


def test_dockers_notices_about_itself_are_left_out() -> None:
    said = (
        "Since --detach=false was not specified, tasks will be created in the background.\n"
        "In a future release, --detach=false will become the default.\n"
        "Ignoring unsupported options: restart\nCreating network s_default\n"
        "Updating service s_app (id: x)\nRemoving service s_old\n"
        "\n  manifest unknown  \n"
    )
    assert problem(said).what == "`docker stack deploy` of s failed: manifest unknown."


def test_the_texts_of_several_tasks_are_weighed_together() -> None:
    exits, taken, odd = "task: non-zero exit (1)", "bind: address already in use", "the moon is in the wrong phase"

    def code(*texts: str) -> str | None:
        found = worst(list(texts))
        return found.code if found else None

    user = "unable to find user x: no matching entries in passwd file"
    assert code(odd, exits, taken) == "not-healthy"
    assert code(odd, taken, exits) == "not-healthy", "its own container may have had the port for a moment longer"
    assert code(taken, exits, taken) == "not-healthy"
    assert code(taken, odd, taken, exits) == "port-taken", "that it ended before says not why it does not run now"
    assert code(odd, taken, user) == "cannot-start"
    assert code(odd, taken) == "port-taken"
    assert code(odd) is None


MEMORY = f"{ERR}rpc error: code = InvalidArgument desc = invalid memory value 1048576: Must be at least 4MiB"


@pytest.mark.parametrize(
    ("text", "keys", "code"),
    [
        (f"failed to create service s-1_certificates: {MEMORY}", ["certificates"], "deploy-refused"),
        (f"failed to create service s-1_x509: {MEMORY}", ["app", "x509"], "deploy-refused"),
        ("services.timeout Additional property volums is not allowed", ["timeout"], "compose-invalid"),
        ('network "proxy" is declared as external, but could not be found. You need to create a swarm-scoped network before the '
         "stack can be deployed", ["proxy", "app"], "network-missing"),
        ("service app: config not found: site_index", ["app", "network"], "config-missing"),
    ],
)  # fmt: skip
def test_what_a_recipe_calls_its_things_is_no_word_of_dockers(text: str, keys: list[str], code: str) -> None:
    assert deploy_problem(text, "The deploy", names=names_of_stack("s-1", keys)).code == code


@pytest.mark.parametrize(
    ("reference", "text", "code"),
    [
        ("reg.example/certificate/app:1", f"{ERR}manifest for reg.example/certificate/app:1 not found: manifest unknown",
         "image-unavailable"),
        ("x509.example/app:1", f'{ERR}Get "https://x509.example/v2/": dial tcp: lookup x509.example on 10.0.0.1:53: no such host',
         "registry-unreachable"),
        ("reg.example/app:1", f'{ERR}Get "https://reg.example/v2/": x509: certificate signed by unknown authority',
         "registry-certificate"),
    ],
)  # fmt: skip
def test_what_an_image_is_called_is_no_word_of_dockers(reference: str, text: str, code: str) -> None:
    assert deploy_problem(text, "The pull", default="pull-failed", names=names_of_image(reference)).code == code


@pytest.mark.parametrize("size", [10, 4000, 500_000])
def test_a_command_of_any_length_hides_no_word_of_the_runtimes(size: int) -> None:
    said = known(f'{INIT}exec: "{"a b" * size}": executable file not found in $PATH: unknown')
    assert said is not None
    assert said.code == "cannot-start"


def test_the_last_lines_of_a_long_output_are_looked_at() -> None:
    said = known("Pulling\n" * 100_000 + f"{ERR}manifest unknown")
    assert said is not None
    assert said.code == "image-unavailable"
