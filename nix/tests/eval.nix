# nix-instantiate --eval --strict --json nix/tests/eval.nix -A NAME: the module and the package against the stub of lib.
let
  lib = import ./lib.nix;

  package = name: { outPath = "/nix/store/stub-${name}"; inherit name; };

  pythonPackages = names // {
    buildPythonApplication = attributes: attributes // package "canonq";
    makePythonPath = packages: builtins.concatStringsSep ":" (map (p: "${p}/lib") packages);
    python.sitePackages = "lib/python3/site-packages";
  };
  names = builtins.listToAttrs (map (name: { inherit name; value = package "python-${name}"; }) [
    "apprise" "celery" "click" "docker" "flower" "gitpython" "jinja2" "packaging" "prometheus-client" "pygal" "pydantic" "pydantic-settings" "pytest" "pyyaml" "redis"
    "requests" "rich" "setuptools" "tenacity" "tomlkit" "tornado" "urllib3" "wheel" "zstandard"
  ]);

  programs = builtins.listToAttrs (map (name: { inherit name; value = package name; }) [
    "bash" "coreutils" "docker-client" "findutils" "git" "git-lfs" "gnugrep" "gnumake" "gnused" "gnutar" "gzip"
    "makeWrapper" "openssh" "python311" "redis" "shellcheck" "util-linux" "uv"
  ]);

  pkgs = programs // {
    inherit lib;
    python3Packages = pythonPackages;
    pkgsStatic.busybox = package "busybox";
    callPackage = file: overrides:
      let wanted = import file; in
      wanted (builtins.intersectAttrs (builtins.functionArgs wanted) (pkgs // overrides));
    formats.toml = _: {
      type = { name = "TOML"; check = builtins.isAttrs; };
      # The value rides along in the path, so that it shows wherever the file is named.
      generate = name: value: { outPath = "/nix/store/stub-${name}?${builtins.toJSON value}"; };
    };
    mkShell = attributes: attributes;
    writeText = name: text: builtins.seq text (package name // { inherit text; });  # a wrong setting in it is refused, as by a build
    writeShellScript = name: text: package name // { inherit text; };
    writeShellScriptBin = name: text: package name // { inherit text; };
  };

  # The text of the environment file that all units of an evaluation are given.
  environment = evaluated: (builtins.head evaluated.systemd.services.canonq-beat.serviceConfig.EnvironmentFile).text;

  evaluate = settings: lib.evalModule { module = ../module.nix; inherit pkgs settings; };
in
rec {
  disabled = evaluate { };
  withoutRepo = evaluate { enable = true; };
  withoutLogin = evaluate { enable = true; repo = "/srv/recipes"; flower.enable = true; };
  withoutPassword = evaluate { enable = true; repo = "/srv/recipes"; web.enable = true; };
  withoutSecret = evaluate { enable = true; repo = "/srv/recipes"; webhook.enable = true; };
  unknownOption = evaluate { enable = true; repo = "/srv/recipes"; repro = "/srv/recipes"; };
  tooManyWorkers = evaluate { enable = true; repo = "/srv/recipes"; lightWorkers = 0; };
  least = evaluate { enable = true; repo = "/srv/recipes"; };
  most = evaluate {
    enable = true;
    repo = "/srv/recipes";
    stateDir = "/data/canonq";
    zone = "ci.example.org";
    nightly = "30 1 * * *";
    lightWorkers = 3;
    redisUrlFile = "/run/secrets/redis-url";
    ingress = { address = "127.0.0.1:443"; caFile = "/etc/ca.pem"; };
    settings = { keep = 3; forge.timeout = 300; webhook.delay = 5; };
    environmentFile = "/run/secrets/canonq-env";
    extraPackages = [ (package "jq") ];
    flower = { enable = true; port = 5566; loginFile = "/run/secrets/flower"; };
    forge = { url = "https://git.example.org"; tokenFile = "/run/secrets/forge-token"; };
    notify.channelsFile = "/run/secrets/channels.toml";
    web = { enable = true; listen = "127.0.0.1:9001"; passwordFile = "/run/secrets/web"; };
    webhook = { enable = true; listen = "127.0.0.1:9000"; secretFile = "/run/secrets/webhook"; };
  };
  leastEnvironment = environment least;
  mostEnvironment = environment most;
  commands = builtins.listToAttrs (map (p: { inherit (p) name; value = p.text; }) most.environment.systemPackages);
  thePackage = builtins.removeAttrs (pkgs.callPackage ../package.nix { }) [ "outPath" "src" ];
  default = (import ../default.nix { inherit pkgs; }).pname;
  shell = map (p: p.name) (import ../shell.nix { inherit pkgs; }).packages;
}
