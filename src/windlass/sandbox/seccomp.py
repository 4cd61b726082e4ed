"""A filter on system calls, as a classic BPF program: what Landlock does not hold.

Every call up to ``LAST`` was looked at; the kernel's newer ones and those of another architecture are refused unseen.
Reference: https://docs.kernel.org/userspace-api/seccomp_filter.html. Numbers: the kernel's syscall_64.tbl (x86-64) and
scripts/syscall.tbl (aarch64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from windlass.sandbox.landlock import SIGNALS_SINCE, TRUNCATE_SINCE
from windlass.sandbox.linux import prctl

PR_SET_SECCOMP, MODE_FILTER = 22, 2

LOAD, JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST, JUMP_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
REFUSE, UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
NO_TERMINAL = 0x00050000 | errno.ENOTTY
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  #: offsets in the kernel's ``struct seccomp_data``

#: machine -> its AUDIT_ARCH value and its column below; both are little-endian, which the argument tests rely on
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
LAST = 462
UNASSIGNED = ((335, 423), (295, 423))

#: calls refused with EPERM: the number on x86-64 and on aarch64 (None: it has no such call)
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # the network; of Unix sockets only a connected pair is left
    **{"socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "accept4": (288, 242), "bind": (49, 200)},
    **{"listen": (50, 201), "sendmsg": (46, 211), "sendmmsg": (307, 269), "setsockopt": (54, 208)},
    # other processes, of the same user too: their memory, their scheduling, leaving the process group
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272)},
    **{"pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "process_madvise": (440, 440)},
    **{"process_mrelease": (448, 448), "migrate_pages": (256, 238), "move_pages": (279, 239)},
    **{"setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118), "sched_setattr": (314, 274)},
    **{"sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122), "perf_event_open": (298, 241)},
    **{"setsid": (112, 157), "setpgid": (109, 154)},
    # memory and queues that outlive the process or belong to others
    **{"shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193)},
    **{"semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188)},
    **{"msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181)},
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    # files by ways that Landlock does not look at: attributes, handles, watching others at work
    **{"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None)},
    **{"fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None)},
    **{"futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6)},
    **{"fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16)},
    **{"name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "inotify_add_watch": (254, 27)},
    **{"fanotify_init": (300, 262), "fanotify_mark": (301, 263), "quotactl": (179, 60), "quotactl_fd": (443, 443)},
    **{"sync": (162, 81), "syncfs": (306, 267), "cachestat": (451, 451), "lookup_dcookie": (212, 18)},
    # namespaces and mounts
    **{"unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)},
    **{"chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430)},
    **{"fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442)},
    **{"statmount": (457, 457), "listmount": (458, 458)},
    # memory that no limit counts, and doors into the kernel that have been broken often
    **{"memfd_create": (319, 279), "memfd_secret": (447, 447), "userfaultfd": (323, 282), "vmsplice": (278, 75)},
    **{"io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427)},
    **{"io_setup": (206, 0), "bpf": (321, 280), "personality": (135, 92), "modify_ldt": (154, None)},
    **{"uselib": (134, None), "ustat": (136, None), "sysfs": (139, None), "nfsservctl": (180, 42)},
    # the machine
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "reboot": (169, 142)},
    **{"finit_module": (313, 273), "delete_module": (176, 106), "swapon": (167, 224), "swapoff": (168, 225)},
    **{"acct": (163, 89), "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112)},
    **{"adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162)},
    **{"vhangup": (153, 58), "iopl": (172, None), "ioperm": (173, None), "lsm_set_self_attr": (460, 460)},
}
#: refused besides, where Landlock is too old to hold them
SIGNALS = {"kill": (62, 129), "tkill": (200, 130), "pidfd_send_signal": (424, 424)}
SIGNALS |= {"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)}
TGKILL = (234, 131)
TRUNCATE = {"truncate": (76, 45)}

CLONE, CLONE3, PRCTL, IOCTL, FCNTL = (56, 220), (435, 435), (157, 167), (16, 29), (72, 25)
PRLIMIT64, SOCKETPAIR, SENDTO = (302, 261), (53, 199), (44, 206)
NEW_NAMESPACES = 0x7E020000
#: of prctl: names (15, 16), questions (2, 3, 21, 23, 39), a filter of its own (22), no_new_privs (38), naming memory
PRCTL_ALLOWED = (15, 16, 2, 3, 21, 23, 39, 22, 38, 0x53564D41)
#: of ioctl: what terminals are asked (TCGETS, TCGETS2, TIOCGWINSZ), FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
IOCTL_ALLOWED = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
#: of fcntl: F_SETOWN, F_SETSIG, F_SETOWN_EX (signals to others), F_SETLEASE, F_NOTIFY
FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
AF_UNIX, SOCK_STREAM, SOCK_TYPE = 1, 1, 0xF


def supported(machine: str) -> bool:
    """Whether the call numbers of a machine (``os.uname().machine``) are known here."""
    return machine in MACHINES


def install(machine: str, abi: int) -> None:
    """Filter this process and all that come from it, for good. ``abi``: the Landlock version that holds it, 0 for none.

    :raises OSError: the kernel refused
    :raises KeyError: the machine is not supported
    """
    code = program(machine, abi, os.getpid())
    steps = ctypes.create_string_buffer(code)
    header = ctypes.create_string_buffer(struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(steps)))
    prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(header))


def program(machine: str, abi: int, pid: int) -> bytes:
    """The filter: instructions of 8 bytes. Where ``abi`` does not hold signals, ``pid`` may signal itself only."""
    architecture, column = MACHINES[machine]
    refused = {**REFUSED, **(SIGNALS if abi < SIGNALS_SINCE else {}), **(TRUNCATE if abi < TRUNCATE_SINCE else {})}
    first, last = UNASSIGNED[column]
    code = [
        *(_step(LOAD, ARCHITECTURE), _step(JUMP_EQUAL, architecture, 1, 0), _step(RETURN, KILL_PROCESS)),
        *(_step(LOAD, NUMBER), _step(JUMP_GREATER, LAST, 0, 1), _step(RETURN, UNKNOWN)),  # x32 lies above, too
        *(_step(JUMP_AT_LEAST, first, 0, 2), _step(JUMP_GREATER, last, 1, 0), _step(RETURN, UNKNOWN)),
    ]
    for name in refused:
        if (number := refused[name][column]) is not None:
            code += _call(number, _step(RETURN, REFUSE))
    code += _call(CLONE3[column], _step(RETURN, UNKNOWN))  # its flags are out of sight; the C library falls back
    code += _call(CLONE[column], _load(0), _step(JUMP_ANY_BIT, NEW_NAMESPACES, 0, 1), *_refuse_or_allow())
    code += _call(PRCTL[column], *_only(0, PRCTL_ALLOWED, REFUSE))
    code += _call(IOCTL[column], *_only(1, IOCTL_ALLOWED, NO_TERMINAL))
    code += _call(FCNTL[column], *_none_of(1, FCNTL_REFUSED))
    code += _call(PRLIMIT64[column], *_only(0, (0,), REFUSE))
    code += _call(SOCKETPAIR[column], *_connected_pair())
    code += _call(SENDTO[column], *_without_address())
    if abi < SIGNALS_SINCE:
        code += _call(TGKILL[column], *_only(0, (pid,), REFUSE))
    return b"".join([*code, _step(RETURN, ALLOW)])


def _step(operation: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, when_true, when_false, value)


def _load(argument: int, high: bool = False) -> bytes:
    """An argument's lower 32 bits, which are all of it for an ``int``, or its upper ones."""
    return _step(LOAD, ARGUMENTS + 8 * argument + 4 * high)


def _call(number: int, *body: bytes) -> list[bytes]:
    """What to do at one call; ``body`` ends with a return."""
    return [_step(JUMP_EQUAL, number, 0, len(body)), *body]


def _refuse_or_allow() -> tuple[bytes, bytes]:
    return _step(RETURN, REFUSE), _step(RETURN, ALLOW)


def _only(argument: int, values: tuple[int, ...], otherwise: int) -> list[bytes]:
    tests = [_step(JUMP_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    return [_load(argument), *tests, _step(RETURN, otherwise), _step(RETURN, ALLOW)]


def _none_of(argument: int, values: tuple[int, ...]) -> list[bytes]:
    tests = [_step(JUMP_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    return [_load(argument), *tests, _step(RETURN, ALLOW), _step(RETURN, REFUSE)]


def _connected_pair() -> list[bytes]:
    """A stream pair can reach nothing but its other end; a datagram socket could be sent anywhere."""
    refuse, allow = _refuse_or_allow()
    return [
        *(_load(0), _step(JUMP_EQUAL, AF_UNIX, 0, 3)),
        *(_load(1), _step(AND, SOCK_TYPE), _step(JUMP_EQUAL, SOCK_STREAM, 1, 0)),
        *(refuse, allow),
    ]


def _without_address() -> list[bytes]:
    refuse, allow = _refuse_or_allow()
    return [
        *(_load(4), _step(JUMP_EQUAL, 0, 0, 2), _load(4, high=True), _step(JUMP_EQUAL, 0, 1, 0)),
        *(refuse, allow),
    ]
