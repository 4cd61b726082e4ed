"""What a program might try. Each prints SUCCEEDED where it got what it wanted.

$NAMES are filled in by the test; ABOVE is the process that started the program."""

from __future__ import annotations

SYSCALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""

#: these work for any program that is not kept in, which the tests show first
REACHING = {
    "read a file of the caller": "open('$SECRET').read(); print('SUCCEEDED')",
    "read a file through a link": "import os; os.symlink('$SECRET', 'l'); open('l').read(); print('SUCCEEDED')",
    "read a file by a hard link": "import os; os.link('$SECRET', 'h'); open('h').read(); print('SUCCEEDED')",
    "read the user table": "open('/etc/passwd').read(); print('SUCCEEDED')",
    "list the root's folders": "import os; os.listdir('/'); os.listdir('/etc/default'); print('SUCCEEDED')",
    "list the temporary folder": "import os; os.listdir('$OUTSIDE'); print('SUCCEEDED')",
    "read the tests": "open('$TESTS').read(); print('SUCCEEDED')",
    "read the caller's environment": "open('/proc/$PID/environ', 'rb').read(); print('SUCCEEDED')",
    "read the caller's memory map": "open('/proc/$PID/maps').read(); print('SUCCEEDED')",
    "open the caller's memory": "open('/proc/$PID/mem', 'rb'); print('SUCCEEDED')",
    "open the caller's files": "import os; os.listdir('/proc/$PID/fd'); print('SUCCEEDED')",
    "see a secret in the environment": "import os; print('SUCCEEDED' if 'A_SECRET' in os.environ else '')",
    "write outside": "open('$OUTSIDE/x', 'w').write('x'); print('SUCCEEDED')",
    "write outside through a link": "import os; os.symlink('$OUTSIDE/y','l2'); open('l2','w'); print('SUCCEEDED')",
    "make a folder outside": "import os; os.mkdir('$OUTSIDE/z'); print('SUCCEEDED')",
    "change a file outside": "open('$SECRET', 'a').write('x'); print('SUCCEEDED')",
    "cut a file outside": "import os; os.truncate('$SECRET', 0); print('SUCCEEDED')",
    "move a file outside": "import os; s = '$SECRET'; os.rename(s, s + '2'); os.rename(s + '2', s); print('SUCCEEDED')",
    "change a mode outside": "import os; os.chmod('$SECRET', 0o644); print('SUCCEEDED')",
    "change a time outside": "import os; os.utime('$SECRET', (1, 1)); print('SUCCEEDED')",
    "write to shared memory": "import os; open('/dev/shm/$TAG','w'); os.unlink('/dev/shm/$TAG'); print('SUCCEEDED')",
    "open a socket": "import socket; socket.socket(); print('SUCCEEDED')",
    "connect to this machine": "import socket; socket.create_connection(('127.0.0.1', $PORT), 2); print('SUCCEEDED')",
    "send a datagram": (
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', $PORT)); print('SUCCEEDED')"
    ),
    "listen": "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print('SUCCEEDED')",
    "connect to an abstract Unix socket": (
        "import socket; socket.socket(socket.AF_UNIX).connect('\\0$TAG'); print('SUCCEEDED')"
    ),
    "connect to a Unix socket": "import socket; socket.socket(socket.AF_UNIX).connect('$SOCKET'); print('SUCCEEDED')",
    "send from one of a datagram pair": (
        "import socket; socket.socketpair(type=socket.SOCK_DGRAM)[0].close(); print('SUCCEEDED')"
    ),
    "open a netlink socket": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); print('SUCCEEDED')",
    "signal the caller": "import os; os.kill($PID, 0); print('SUCCEEDED')",
    "signal the supervisor": "import os; os.kill(ABOVE, 0); print('SUCCEEDED')",
    "signal by a descriptor": (
        "import os, signal; signal.pidfd_send_signal(os.pidfd_open($PID), 0); print('SUCCEEDED')"
    ),
    "signal by a file's owner": (
        "import fcntl, os; r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, $PID); print('SUCCEEDED')"
    ),
    "trace the caller": SYSCALL + "call(101, 0x4206, $PID, 0, 0); print('SUCCEEDED')",
    "change the caller's limits": (
        "import resource; resource.prlimit($PID, resource.RLIMIT_CORE, (0, 0)); print('SUCCEEDED')"
    ),
    "change the supervisor's limits": (
        "import os, resource; resource.prlimit(ABOVE, resource.RLIMIT_CORE, (0, 0)); print('SUCCEEDED')"
    ),
    "pin the caller": "import os; os.sched_setaffinity($PID, os.sched_getaffinity($PID)); print('SUCCEEDED')",
    "slow the caller down": "import os; os.setpriority(0, $PID, os.getpriority(0, $PID)); print('SUCCEEDED')",
    "leave the process group": "import os; os.setpgid(0, 0); print('SUCCEEDED')",
    "leave the session": "import os; os.setsid(); print('SUCCEEDED')",
    "take shared memory of the system": (
        SYSCALL + "i = call(29, 0, 4096, 0o1600); call(31, i, 0, 0); print('SUCCEEDED')"
    ),
    "take a semaphore of the system": SYSCALL + "i = call(64, 0, 1, 0o1600); call(66, i, 0, 0, 0); print('SUCCEEDED')",
    "make a file of memory": "import os; os.memfd_create('x'); print('SUCCEEDED')",
    "watch files of others": SYSCALL + "call(254, libc.inotify_init1(0), b'/etc', 2); print('SUCCEEDED')",
    "leave its own death unannounced": SYSCALL + "assert libc.prctl(1, 0, 0, 0, 0) == 0; print('SUCCEEDED')",
    "hide from /proc": SYSCALL + "assert libc.prctl(4, 0, 0, 0, 0) == 0; print('SUCCEEDED')",
    "adopt processes": SYSCALL + "assert libc.prctl(36, 1, 0, 0, 0) == 0; print('SUCCEEDED')",
    "flush all disks": SYSCALL + "call(306, os.open('.', 0)); print('SUCCEEDED')",
    "map a file executable in its folder": (
        "import os; open('p', 'w').write('#!/bin/sh\\necho SUCCEEDED'); os.chmod('p', 0o755)\n"
        "import subprocess; subprocess.run('./p')"
    ),
}

#: x86-64 numbers of calls that need rights, a kernel option or arguments to work at all: here the answer must be EPERM
REFUSED_CALLS = {
    **{"mount": 165, "umount2": 166, "unshare": 272, "setns": 308, "pivot_root": 155, "chroot": 161, "ptrace": 101},
    **{"process_vm_readv": 310, "process_vm_writev": 311, "keyctl": 250, "add_key": 248, "request_key": 249},
    **{"io_uring_setup": 425, "io_uring_enter": 426, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323},
    **{"kexec_load": 246, "init_module": 175, "open_by_handle_at": 304, "pidfd_getfd": 438, "open_tree": 428},
    **{"fsopen": 430, "mount_setattr": 442, "mq_open": 240, "msgget": 68, "sendmsg": 46, "connect": 42, "reboot": 169},
    **{"personality": 135, "setxattr": 188, "swapon": 167, "sethostname": 170, "settimeofday": 164, "syslog": 103},
}
