# nix-shell nix/shell.nix: what `make` needs.
{ pkgs ? import <nixpkgs> { } }:

pkgs.mkShell {
  packages = with pkgs; [ docker-client git git-lfs gnumake gnutar pkgsStatic.busybox python311 redis shellcheck uv ];
}
