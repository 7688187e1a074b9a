# shellcheck shell=bash
# What the images' binaries are built for, and where they lie. Sourced; needs cache.sh.

profile=${DBBACKUP_IMAGE_PROFILE:-release}
target=$(uname -m)-unknown-linux-gnu
# Older than the images' own, because parts of the runner also start inside of
# database servers' images, which may be years old.
# shellcheck disable=SC2034 # read by build-binaries
glibc=2.28
# A target folder of our own: with another linker, cargo would otherwise build
# everything anew whenever this and the usual build take turns.
own_target_folder=$cache/target-images
target_folder=$own_target_folder${DBBACKUP_SOURCE:+-other}
# Cargo's one exception: the profile `dev` is built into `debug`.
# shellcheck disable=SC2034 # read by build and build-binaries
binaries_folder=$target_folder/$target/${profile/#dev/debug}
# The program for servers' images is linked statically, by this system's own linker: other
# flags, hence another folder again, and a profile of its own (Cargo.toml).
shim_target_folder=$cache/target-shim${DBBACKUP_SOURCE:+-other}
# shellcheck disable=SC2034 # read by build and build-binaries
shim_binary=$shim_target_folder/$target/shim/dbbackup-shim
