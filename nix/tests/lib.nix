# As much of nixpkgs' lib as the files under test use, so that they can be evaluated where nixpkgs cannot be had.
# `evalModule` stands for NixOS: it fills in defaults, checks types, and refuses what is not declared.
let
  inherit (builtins) attrNames concatLists concatStringsSep elem filter isAttrs isBool isInt isList isString listToAttrs
    mapAttrs stringLength substring;

  type = name: check: { inherit name check; };

  types = {
    bool = type "boolean" isBool;
    str = type "string" isString;
    path = type "path" (v: builtins.isPath v || isString v && substring 0 1 v == "/");
    port = type "port" (v: isInt v && v >= 0 && v <= 65535);
    package = type "package" (v: isAttrs v && v ? outPath);
    ints.between = low: high: type "integer between ${toString low} and ${toString high}" (v: isInt v && v >= low && v <= high);
    enum = values: type "one of ${concatStringsSep ", " values}" (v: elem v values);
    listOf = inner: type "list of ${inner.name}" (v: isList v && builtins.all inner.check v);
    nullOr = inner: inner // type "null or ${inner.name}" (v: v == null || inner.check v);
    either = a: b: type "${a.name} or ${b.name}" (v: a.check v || b.check v);
    submodule = module: type "submodule" isAttrs // { inherit (module) options; };
  };

  isOption = v: isAttrs v && v._type or null == "option";
  isConditional = v: isAttrs v && v._type or null == "if";

  # The value of one option, or of a folder of them.
  fill = path: option: given:
    if isOption option then
      let
        value = given.value or (option.default or (throw "The option `${path}' is used but not defined."));
        checked =
          if option.type.check value then value
          else throw "A definition for option `${path}' is not of type `${option.type.name}'.";
      in
      if option.type ? options && checked != null then fill path option.type.options { value = checked; } else checked
    else
      let unknown = filter (name: !(option ? ${name})) (attrNames (given.value or { })); in
      if unknown != [ ] then throw "The option `${path}.${builtins.head unknown}' does not exist."
      else mapAttrs
        (name: inner: fill "${path}.${name}" inner
          (if given ? value && given.value ? ${name} then { value = given.value.${name}; } else { }))
        option;

  described = option: given:
    if isOption option then option // { isDefined = given ? value || option ? default; }
    else mapAttrs
      (name: inner: described inner
        (if given ? value && given.value ? ${name} then { value = given.value.${name}; } else { }))
      option;

  # Conditions resolved, priorities dropped.
  settle = v:
    if isConditional v then (if v.condition then settle v.content else { })
    else if isAttrs v && v ? _default then settle v._default
    else if isAttrs v && !(v ? outPath) then mapAttrs (_: settle) v
    else if isList v then map settle v
    else v;

  self = {
    inherit types;
    inherit (builtins) head;

    literalExpression = text: text;
    mkOption = attributes: attributes // { _type = "option"; };
    mkEnableOption = description: self.mkOption { type = types.bool; default = false; inherit description; };
    mkIf = condition: content: { _type = "if"; inherit condition content; };
    mkDefault = value: { _default = value; };

    recursiveUpdate = left: right: left // builtins.mapAttrs
      (name: value: if builtins.isAttrs value && builtins.isAttrs (left.${name} or null) then self.recursiveUpdate left.${name} value else value)
      right;
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: value: if condition then value else { };
    optionalString = condition: value: if condition then value else "";
    makeBinPath = packages: concatStringsSep ":" (map (p: "${p}/bin") packages);
    getExe' = package: name: "${package}/bin/${name}";
    platforms.linux = [ "x86_64-linux" "aarch64-linux" ];
    cleanSourceWith = { src, filter }: builtins.filterSource filter src;

    splitString = separator: text: filter isString (builtins.split separator text);
    hasSuffix = suffix: text:
      let start = stringLength text - stringLength suffix; in
      start >= 0 && substring start (stringLength suffix) text == suffix;
    removePrefix = prefix: text:
      if substring 0 (stringLength prefix) text == prefix
      then substring (stringLength prefix) (stringLength text) text
      else text;

    evalModule = { module, pkgs, settings }:
      let
        given = { value = settings; };
        config.services.canonq = fill "services.canonq" made.options.services.canonq given;
        options.services.canonq = described made.options.services.canonq given;
        made = import module { lib = self; inherit config options pkgs; };
        result = settle made.config;
        failed = filter (a: !a.assertion) (result.assertions or [ ]);
      in
      if failed != [ ]
      then throw "Failed assertions: ${concatStringsSep " " (map (a: a.message) failed)}"
      else result;
  };
in
self
