#!/usr/bin/env bash
# Builds the Debian package and uses it as an operator would, on a machine that is thrown away.
#
# test-deb.sh FOLDER: with the release builds `causeway` and `causeway-client` in FOLDER. As root, on
# Debian, with systemd's programs there, running or not; it says what it looked at, and ends with 1 if
# anything was not as it should be. The machine is this one, with a layer on top that takes every
# write, and with a network of its own: nothing of it is left, and no port is in anybody's way.
#
# First without systemd, with a socket in its place. Then, where systemd-nspawn is there (Debian's
# systemd-container), that machine is booted, and systemd itself starts, reloads and stops it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
version=3.8.0
tools=${CAUSEWAY_CI_TOOLS:-${HOME:-/root}/.cache/causeway-ci}

wrong=0
ok() { echo "ok    $*"; }
not() {
    echo "WRONG $*"
    wrong=$((wrong + 1))
}
# is WORDS COMMAND...: that it ends well.
is() {
    local words=$1 said
    shift
    if said=$("$@" 2>&1); then ok "$words"; else not "$words: $said"; fi
}
# within SECONDS COMMAND...
within() {
    local tries=$(($1 * 10))
    shift
    while ! "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}
same() { [ "$1" = "$2" ] || { echo "\`$1\`, and not \`$2\`"; return 1; }; }

# The machine that systemd has booted.
if [ "${1:-}" = --booted ]; then
    causeway() { runuser -u causeway -- causeway "$@"; }
    of_unit() { systemctl show -P "$1" causeway; }
    is "it installs while systemd runs" dpkg -i /root/causeway.deb
    is "it is neither enabled nor running" same "$(of_unit UnitFileState) $(of_unit ActiveState)" \
        "disabled inactive"
    is "init" causeway init --config /etc/causeway/config.yaml --server-name example.org \
        --data-dir /var/lib/causeway
    python3 /root/test_deb_homeserver.py homeserver /etc/causeway/registration.yaml >/dev/null 2>&1 &
    is "systemd starts it" timeout 60 systemctl enable --now causeway
    if [ "$wrong" != 0 ]; then
        echo "what comes after that was not looked at"
        journalctl -u causeway --no-pager -n 15
        echo "$wrong" >/root/wrong
        exit
    fi
    is "it is ready" within 30 causeway healthcheck
    pid=$(of_unit MainPID)
    for line in "CapBnd: 0000000000000000" "NoNewPrivs: 1" "Seccomp: 2"; do
        is "$line" sh -c "tr '\t' ' ' </proc/$pid/status | grep -qx '$line'"
    done
    is "a backup while it runs" causeway backup create /var/lib/causeway/copy
    is "systemd has it reload" timeout 30 systemctl reload causeway
    sleep 1
    is "that leaves it as it is" same "$(of_unit MainPID) $(of_unit ActiveState)" "$pid active"
    kill -STOP "$pid"
    is "one that hangs is ended by the watchdog, and started again" within 120 \
        sh -c "[ \$(systemctl show -P NRestarts causeway) = 1 ]"
    is "then it is ready again" within 30 causeway healthcheck
    is "an upgrade restarts it" sh -c "dpkg -i /root/causeway.deb && systemctl is-active causeway"
    is "systemd stops it" systemctl stop causeway
    is "it ended in order" same "$(of_unit Result) $(of_unit ExecMainStatus)" "success 0"
    is "the backup is put back" causeway backup restore --move-aside /var/lib/causeway/copy
    systemctl start causeway 2>/dev/null || true
    is "without --after-restore it is not started again and again" within 20 \
        sh -c '[ "$(systemctl show -P ExecMainStatus,ActiveState causeway | tr "\n" " ")" = "failed 23 " ] ||
               [ "$(systemctl show -P ExecMainStatus,ActiveState causeway | tr "\n" " ")" = "23 failed " ]'
    is "it is removed, and stopped" sh -c "dpkg -P causeway && ! systemctl is-active -q causeway"
    if [ "$wrong" != 0 ]; then journalctl -u causeway --no-pager -n 15; fi
    echo "$wrong" >/root/wrong
    exit
fi

if [ "${1:-}" != --inside ] && [ "${1:-}" != --boot ]; then
    bin=$(cd "${1:?the folder with causeway and causeway-client}" && pwd)
    if [ "$(id -u)" != 0 ]; then
        echo "test-deb.sh needs root: it installs a package." >&2
        exit 1
    fi
    if [ "$("$tools/bin/cargo-deb" --version 2>/dev/null)" != "cargo-deb $version" ]; then
        cargo install -q --locked --root "$tools" --no-default-features "cargo-deb@$version"
    fi
    work=$(mktemp -d "${TMPDIR:-/tmp}/causeway-deb.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/target/release" "$work/layer"
    cp "$bin/causeway" "$bin/causeway-client" "$work/target/release/"
    cd "$here/../.."
    CARGO_TARGET_DIR=$work/target "$tools/bin/cargo-deb" -p causeway-bridge --no-build --no-strip --fast \
        --locked -q -o "$work/causeway.deb"
    unshare --mount --net --pid --fork bash "$here/test-deb.sh" --inside "$work" || wrong=1
    if command -v systemd-nspawn >/dev/null; then
        unshare --mount --net bash "$here/test-deb.sh" --boot "$work" || wrong=1
    else
        echo "not looked at: the unit under systemd itself; that needs Debian's systemd-container"
    fi
    exit "$wrong"
fi

# machine: a throw-away one, in $root.
work=$2
machine() {
    mount -t tmpfs tmpfs "$work/layer"
    mkdir "$work/layer/upper" "$work/layer/work" "$work/layer/root"
    root=$work/layer/root
    mount -t overlay overlay -o "lowerdir=/,upperdir=$work/layer/upper,workdir=$work/layer/work" "$root"
    cp "$work/causeway.deb" "$here/test_deb_homeserver.py" "$here/test-deb.sh" "$root/root/"
}
machine
ip link set lo up
if [ "$1" = --boot ]; then
    : >"$root/etc/machine-id"
    cat >"$root/etc/systemd/system/test-deb.service" <<'UNIT'
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'bash /root/test-deb.sh --booted >/root/said 2>&1; systemctl poweroff'
UNIT
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    ln -s ../test-deb.service "$root/etc/systemd/system/multi-user.target.wants/"
    echo "booting it"
    timeout 400 systemd-nspawn --register=no --keep-unit --quiet -D "$root" -b </dev/null >"$work/boot" 2>&1 || true
    if [ ! -f "$root/root/wrong" ]; then
        not "it did not boot, or not to the end: $(tail -n 5 "$work/boot")"
    else
        wrong=$((wrong + $(cat "$root/root/wrong")))
    fi
    cat "$root/root/said" 2>/dev/null || true
    [ "$wrong" = 0 ]
    exit
fi

mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
cp "$work/causeway.deb" "$here/test_deb_homeserver.py" "$root/tmp/"

in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
# As the unit has it run: its user, its folder, its rights.
as_service() {
    in_root setpriv --reuid causeway --regid causeway --init-groups --no-new-privs \
        --bounding-set=-all env -C /var/lib/causeway "$@"
}

mode() { in_root stat -c '%U:%G %a' "$1"; }
gone() { ! in_root test -e "$1"; }

is "it installs" in_root dpkg -i /tmp/causeway.deb
is "both programs say their version" in_root sh -c 'causeway --version && causeway-client --version'
is "there is a user" in_root getent passwd causeway
# What systemd does at once where it runs, and else at boot.
is "folders are made" in_root systemd-tmpfiles --create causeway.conf
is "/etc/causeway is his" same "$(mode /etc/causeway)" "causeway:causeway 700"
is "/var/lib/causeway is his" same "$(mode /var/lib/causeway)" "causeway:causeway 700"
unit=/usr/lib/systemd/system/causeway.service
is "the unit is right" in_root systemd-analyze verify "$unit"
is "the unit lets go of rights" in_root systemd-analyze security --offline=true --threshold=20 "$unit"
is "it is not enabled before it is set up" gone /etc/systemd/system/multi-user.target.wants/causeway.service

line=$(in_root sed -n 's/^ExecStart=//p' "$unit")

if said=$(as_service $line 2>&1); then not "without a configuration it runs"; else
    is "without a configuration it ends with 10, and says where it looked" \
        sh -c "[ $? = 10 ] && case '$said' in *'/etc/causeway/config.yaml'*) ;; *) echo '$said'; false ;; esac"
fi
is "init" as_service causeway init --config /etc/causeway/config.yaml --server-name example.org \
    --homeserver http://127.0.0.1:8008 --data-dir /var/lib/causeway
is "config.yaml is his alone" same "$(mode /etc/causeway/config.yaml)" "causeway:causeway 600"
is "config check" as_service causeway config check --config /etc/causeway/config.yaml

# start: the unit's own line, with a socket in systemd's place.
start() {
    rm -f "$root/tmp/notify" "$root/tmp/notified"
    in_root python3 /tmp/test_deb_homeserver.py notify /tmp/notify /tmp/notified &
    within 5 in_root test -S /tmp/notify
    in_root chmod 777 /tmp/notify
    # Not by a shell that stays between: the signals are for the program.
    chroot "$root" /usr/bin/setpriv --reuid causeway --regid causeway --init-groups --no-new-privs \
        --bounding-set=-all /usr/bin/env -i -C /var/lib/causeway PATH=/usr/bin:/bin \
        NOTIFY_SOCKET=/tmp/notify WATCHDOG_USEC=2000000 $line 2>"$work/layer/log" &
    pid=$!
}
stop() {
    kill -TERM "$pid"
    code=0
    wait "$pid" || code=$?
    is "SIGTERM ends it with 0" same "$code" 0
}
told() { grep -q "^$1" "$root/tmp/notified"; }
listens() { in_root python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:29360/live")'; }

start
is "it serves while the homeserver is away" within 20 listens
is "it says that it waits, and for whom" within 5 grep -q "waiting for the homeserver" "$work/layer/log"
is "healthcheck says that it is not ready" as_service sh -c \
    'causeway healthcheck --config /etc/causeway/config.yaml 2>&1 | grep "homeserver cannot be reached"'
is "READY=1 comes" within 10 told READY=1
is "WATCHDOG=1 comes" within 5 told WATCHDOG=1
kill -HUP "$pid"
sleep 1
is "SIGHUP leaves it running" kill -0 "$pid"
is "RELOADING=1 comes" within 2 told RELOADING=1
if kill -0 "$pid" 2>/dev/null; then
    stop
    is "STOPPING=1 comes" within 2 told STOPPING=1
fi

in_root python3 /tmp/test_deb_homeserver.py homeserver /etc/causeway/registration.yaml >"$work/layer/hs" 2>&1 &
start
is "with a homeserver it is ready" within 30 as_service causeway healthcheck --config /etc/causeway/config.yaml
is "the client makes an account" in_root causeway-client register ann --home /tmp/ann \
    --server http://127.0.0.1:29361 --token-file /var/lib/causeway/registration.token
is "the client makes a group" in_root causeway-client group create team --home /tmp/ann
is "a backup of the running service" as_service causeway backup create \
    --config /etc/causeway/config.yaml /var/lib/causeway/copy
stop

before=$(in_root sha256sum /etc/causeway/config.yaml /var/lib/causeway/storage.key)
is "it installs over itself" in_root dpkg -i /tmp/causeway.deb
is "it is removed" in_root dpkg -r causeway
is "the programs are gone" gone /usr/bin/causeway
is "the unit is gone" gone "$unit"
is "configuration and keys are as they were" same \
    "$(in_root sha256sum /etc/causeway/config.yaml /var/lib/causeway/storage.key)" "$before"
is "messages are still there" in_root test -s /var/lib/causeway/server.db
is "it installs again, and goes on" in_root dpkg -i /tmp/causeway.deb
is "config check of before" as_service causeway config check --config /etc/causeway/config.yaml
is "it is purged" in_root dpkg -P causeway
is "configuration is gone" gone /etc/causeway
is "keys and messages are gone" gone /var/lib/causeway
is "the user stays" in_root getent passwd causeway

if [ "$wrong" != 0 ]; then
    echo "$wrong wrong; the last lines of its log:"
    tail -n 5 "$work/layer/log"
fi
[ "$wrong" = 0 ]
