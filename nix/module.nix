# The NixOS module `services.canonq`: two workers, the clock, and Flower when asked for.
{ config, lib, options, pkgs, ... }:

let
  inherit (lib) literalExpression mkEnableOption mkIf mkOption optional optionalAttrs types;

  cfg = config.services.canonq;
  toml = pkgs.formats.toml { };

  ownRedis = cfg.redisUrlFile == null;
  redisSocket = "/run/redis-canonq/redis.sock";

  # Merged key by key, also within tables: `settings.forge.timeout` leaves the address and the token as they are.
  configFile = toml.generate "canonq.toml" (lib.recursiveUpdate (
    {
      repo = toString cfg.repo;
      state = cfg.stateDir;
      inherit (cfg) zone nightly;
      light_workers = cfg.lightWorkers;
    }
    // (if ownRedis
    then { redis_url = "redis+socket://${redisSocket}"; }
    else { redis_url_file = cfg.redisUrlFile; })
    // optionalAttrs (cfg.ingress != null) {
      ingress = {
        inherit (cfg.ingress) scheme address;
      } // optionalAttrs (cfg.ingress.caFile != null) { ca_file = cfg.ingress.caFile; };
    }
    // optionalAttrs (cfg.forge != null) {
      forge = {
        inherit (cfg.forge) url;
        token_file = cfg.forge.tokenFile;
      } // optionalAttrs (cfg.forge.caFile != null) { ca_file = cfg.forge.caFile; };
    }
    // optionalAttrs (cfg.notify.channelsFile != null) {
      notify.channels_file = cfg.notify.channelsFile;
    }
    // optionalAttrs cfg.web.enable {
      web = {
        inherit (cfg.web) listen;
        password_file = cfg.web.passwordFile;
      };
    }
    // optionalAttrs cfg.webhook.enable {
      webhook = {
        inherit (cfg.webhook) listen;
        secret_file = cfg.webhook.secretFile;
      };
    }
  ) cfg.settings);

  # One file for every process and for the operator's command: what is proven by hand is what runs at night.
  environmentFile = pkgs.writeText "canonq.env" ''
    CANONQ_CONFIG=${configFile}
    CELERY_APP=canonq
    HOME=${cfg.stateDir}
    LANG=C.UTF-8
  '';

  programs = [
    pkgs.bash
    pkgs.coreutils
    pkgs.docker-client
    pkgs.findutils
    pkgs.git
    pkgs.git-lfs
    pkgs.gnugrep
    pkgs.gnused
    pkgs.gnutar
    pkgs.gzip
    pkgs.openssh
    pkgs.util-linux
  ] ++ cfg.extraPackages;

  beatPidfile = "${cfg.stateDir}/celerybeat.pid";

  celery = "${cfg.package}/bin/celery";

  # Every process finds its way back to a Redis that was restarted, so none is stopped along with it.
  wanted = [ "network-online.target" ] ++ optional ownRedis "redis-canonq.service";

  unit = { description, command, requires ? [ ], secrets ? [ ], service ? { } }: {
    inherit description requires;
    wantedBy = [ "multi-user.target" ];
    wants = wanted;
    after = wanted ++ requires;
    path = programs;
    startLimitIntervalSec = 0;
    serviceConfig = {
      ExecStart = command;
      EnvironmentFile = [ environmentFile ] ++ optional (cfg.environmentFile != null) cfg.environmentFile ++ secrets;
      WorkingDirectory = cfg.stateDir;
      Restart = "always";
      RestartSec = 5;
      # TERM to the main process only: sent to all, it aborts the running step. The final KILL takes orphans along.
      KillMode = "mixed";
      TimeoutStopSec = 30;
    } // service;
  };

  # What only listens, or only keeps the time: root, as the Redis's socket and the state belong to others, and nothing beyond that.
  confined = {
    NoNewPrivileges = true;
    CapabilityBoundingSet = "CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH";
    ProtectSystem = "strict";
    ProtectHome = "read-only";
    PrivateTmp = true;
    PrivateDevices = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    RestrictAddressFamilies = [ "AF_INET" "AF_INET6" "AF_UNIX" ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    LockPersonality = true;
    SystemCallArchitectures = "native";
    UMask = "0077";
  };

  withState = confined // { ReadWritePaths = [ cfg.stateDir ]; };

  # systemd has a %h of its own (a home folder); %%h leaves Celery's.
  worker = { name, queues, concurrency, description }: unit {
    inherit description;
    requires = [ "docker.service" ];
    command = "${celery} worker -n ${name}@%%h -Q ${queues}${concurrency} -E";
    service = {
      # TERM ends like QUIT: the step gets worker_soft_shutdown_timeout (60 s), then goes back into its queue.
      Environment = [ "REMAP_SIGTERM=SIGQUIT" ];
      TimeoutStopSec = 120;
    };
  };

  # What is typed works in the environment of the units: the same Redis, the same checkout, the same programs.
  command = name: pkgs.writeShellScriptBin name ''
    set -a
    . ${environmentFile}
    ${lib.optionalString (cfg.environmentFile != null) ". ${cfg.environmentFile}"}
    PATH=${lib.makeBinPath programs}:$PATH
    exec ${cfg.package}/bin/${name} "$@"
  '';
in
{
  options.services.canonq = {
    enable = mkEnableOption "canonq, which keeps the newest proven version of each Co-op Cloud recipe";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The canonq package.";
    };

    repo = mkOption {
      type = types.either types.path types.str;
      example = "/srv/recipes";
      description = ''
        The checkout that holds tests/<recipe>/recipe.toml. It has no default on purpose: a sweep over the wrong folder
        finds nothing to do and would look green.
      '';
    };

    stateDir = mkOption {
      type = types.str;
      default = "/var/lib/canonq";
      description = "Where the registry, the snapshots and the runs are kept.";
    };

    zone = mkOption {
      type = types.str;
      default = "canonq.test";
      example = "ci.example.org";
      description = "Domains are warm-<recipe>.<zone>, and short random ones for each cold run.";
    };

    nightly = mkOption {
      type = types.str;
      default = "0 3 * * *";
      description = "When the sweep starts, as a crontab line, in UTC.";
    };

    lightWorkers = mkOption {
      type = types.either (types.ints.between 1 64) (types.enum [ "auto" ]);
      default = "auto";
      description = "How many light recipes are tested side by side; with \"auto\", as many as fit. Heavy ones always go one at a time.";
    };

    redisUrlFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/canonq-redis-url";
      description = ''
        A file, outside the store, that holds the Redis URL with its password. Without one, a Redis of canonq's own is
        set up, on a socket that only root and its own user can open.
      '';
    };

    ingress = mkOption {
      type = types.nullOr (types.submodule {
        options = {
          scheme = mkOption {
            type = types.enum [ "http" "https" ];
            default = "https";
            description = "How the ingress is spoken to.";
          };
          address = mkOption {
            type = types.str;
            example = "127.0.0.1:443";
            description = "The host, and the port where it is not the usual one.";
          };
          caFile = mkOption {
            type = types.nullOr types.str;
            default = null;
            description = "The certificate authority that signed the ingress's certificates.";
          };
        };
      });
      default = null;
      description = "The reverse proxy that probes go through. Without one, routing is not tested.";
    };

    forge = mkOption {
      type = types.nullOr (types.submodule {
        options = {
          url = mkOption {
            type = types.str;
            example = "https://git.example.org";
            description = "Where the Gitea or Forgejo is that mirrors are on.";
          };
          tokenFile = mkOption {
            type = types.str;
            example = "/run/secrets/canonq-forge-token";
            description = "A file, outside the store, with a token that may read and write repositories and issues.";
          };
          caFile = mkOption {
            type = types.nullOr types.str;
            default = null;
            description = "The certificate authority that signed the forge's certificate.";
          };
        };
      });
      default = null;
      description = "The forge that mirrors are on. Without one, pull requests and commit statuses are left alone.";
    };

    web = {
      enable = mkEnableOption "the report's pages live, with metrics, read-only and behind a login";

      listen = mkOption {
        type = types.str;
        default = "127.0.0.1:8788";
        description = "Where it listens, in plain HTTP.";
      };

      passwordFile = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/run/secrets/canonq-web";
        description = "A file, outside the store, with the password of the user canonq in one line.";
      };
    };

    notify.channelsFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/canonq-channels.toml";
      description = "A file, outside the store, with the channels that messages go to, as lists of Apprise's addresses.";
    };

    webhook = {
      enable = mkEnableOption "the server that takes a forge's pushes, so that a release need not wait for the night";

      listen = mkOption {
        type = types.str;
        default = "127.0.0.1:8787";
        description = "Where it listens, in plain HTTP.";
      };

      secretFile = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/run/secrets/canonq-webhook";
        description = "A file, outside the store, with the secret that signs what the forge says.";
      };
    };

    settings = mkOption {
      type = toml.type;
      default = { };
      example = { keep = 3; forge.timeout = 300; };
      description = "Further keys of canonq.toml, merged into what the other options say. No secrets: the file is readable by everyone on the host.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "A file, outside the store, with further variables for every process, such as tokens.";
    };

    extraPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = literalExpression "[ pkgs.jq ]";
      description = "Further programs that the recipes' install steps and tests call.";
    };

    flower = {
      enable = mkEnableOption "Flower, the web page that shows the workers and their tasks";

      port = mkOption {
        type = types.port;
        default = 5555;
        description = "The port, on 127.0.0.1 only.";
      };

      loginFile = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/run/secrets/canonq-flower";
        description = "A file, outside the store, with the one line FLOWER_BASIC_AUTH=user:password.";
      };
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = options.services.canonq.repo.isDefined;
        message = "services.canonq.repo is not set: name the checkout that holds tests/<recipe>/recipe.toml.";
      }
      {
        assertion = cfg.flower.enable -> cfg.flower.loginFile != null;
        message = "services.canonq.flower.loginFile is not set: Flower must not run without a login.";
      }
      {
        assertion = cfg.web.enable -> cfg.web.passwordFile != null;
        message = "services.canonq.web.passwordFile is not set: the page must not be there without a login.";
      }
      {
        assertion = cfg.webhook.enable -> cfg.webhook.secretFile != null;
        message = "services.canonq.webhook.secretFile is not set: what is not signed is not taken.";
      }
    ];

    virtualisation.docker = {
      enable = lib.mkDefault true;
      # NixOS turns this on, and Docker then refuses swarm mode.
      liveRestore = lib.mkDefault false;
    };

    environment.systemPackages = map command [ "canonq" "celery" ];

    services.redis.servers = mkIf ownRedis {
      canonq = {
        enable = true;
        # No port at all; the socket belongs to the server's user, and root opens it.
        port = 0;
        unixSocket = redisSocket;
        unixSocketPerm = 600;
        appendOnly = true;
        appendFsync = "everysec";
        settings.maxmemory-policy = "noeviction";
      };
    };

    systemd.tmpfiles.rules = [ "d ${cfg.stateDir} 0700 root root -" ];

    systemd.services = {
      canonq-beat = unit {
        description = "canonq clock";
        command = "${celery} beat --schedule ${cfg.stateDir}/celerybeat-schedule --pidfile ${beatPidfile}";
        # After a power loss the number in the file may be another process's, and beat would refuse to start for ever.
        service = withState // { ExecStartPre = pkgs.writeShellScript "canonq-beat-stale-pidfile" ''
          if pid=$(cat ${beatPidfile} 2>/dev/null) && ! grep -q beat "/proc/$pid/cmdline" 2>/dev/null; then
            rm -f ${beatPidfile}
          fi
        ''; };
      };

      canonq-worker-light = worker {
        name = "light";
        queues = "light";
        concurrency = ""; # as the settings say
        description = "canonq worker for light recipes";
      };

      canonq-worker-heavy = worker {
        name = "heavy";
        queues = "heavy,light";
        concurrency = " -c 1";
        description = "canonq worker for heavy recipes";
      };
    } // optionalAttrs cfg.web.enable {
      canonq-web = unit {
        description = "canonq's live page";
        command = "${cfg.package}/bin/canonq web";
        service = confined;
      };
    } // optionalAttrs cfg.webhook.enable {
      canonq-webhook = unit {
        description = "canonq's ear for pushes";
        command = "${cfg.package}/bin/canonq webhook";
        service = withState;
      };
    } // optionalAttrs cfg.flower.enable {
      canonq-flower = unit {
        description = "canonq task page (Flower)";
        command = "${celery} flower --port=${toString cfg.flower.port}";
        secrets = optional (cfg.flower.loginFile != null) cfg.flower.loginFile;
        # It shows what Redis carries, and has no need of the registry.
        service = confined // { WorkingDirectory = "/"; InaccessiblePaths = [ "-${cfg.stateDir}" ]; };
      };
    };
  };
}
