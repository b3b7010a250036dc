import Foundation
import Isolation

/// An OCI runtime configuration (config.json, version 1.0) with the isolation of a machine: the same namespaces (time
/// aside, which the format does not know), capabilities, limits, masked paths, devices and system calls.
struct CrunConfiguration {
    let argv: [String]
    let limits: ResourceLimits
    /// Path of its cgroup below every hierarchy.
    let cgroup: String

    func encoded() throws -> [UInt8] {
        let document: [String: Any] = [
            "ociVersion": "1.0.2",
            "process": process,
            "root": ["path": "rootfs", "readonly": false],
            "hostname": "bench",
            "mounts": [
                mount("/proc", "proc", ["nosuid", "noexec", "nodev"]),
                mount(
                    "/dev/pts",
                    "devpts",
                    ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
                ),
            ],
            "linux": linux,
        ]
        return Array(try JSONSerialization.data(withJSONObject: document))
    }

    private var process: [String: Any] {
        let kept = Capability.allCases.map(\.ociName)
        return [
            "terminal": false,
            "user": ["uid": 0, "gid": 0],
            "args": argv,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": ["bounding": kept, "effective": kept, "permitted": kept],
            "rlimits": [
                limit("RLIMIT_CORE", 4, soft: 0, hard: 0),
                limit("RLIMIT_NOFILE", 7, soft: 1024, hard: 65536),
                limit("RLIMIT_MEMLOCK", 8, soft: 8 << 20, hard: 8 << 20),
            ],
            "noNewPrivileges": true,
        ]
    }

    /// A limit, by name and by Linux's number, no higher than this process's own: without CAP_SYS_RESOURCE none can be raised.
    private func limit(_ name: String, _ resource: Int32, soft: rlim_t, hard: rlim_t) -> [String: Any] {
        var now = rlimit()
        let known = getrlimit(resource, &now) == 0
        let allowed = known ? min(hard, now.rlim_max) : hard
        return ["type": name, "soft": min(soft, allowed), "hard": allowed]
    }

    private var linux: [String: Any] {
        let masks = ProcMasks.all.present
        let period = 100_000
        return [
            "cgroupsPath": cgroup,
            "namespaces": ["pid", "mount", "network", "uts", "ipc", "cgroup"].map { ["type": $0] },
            "maskedPaths": masks.files + masks.directories,
            "readonlyPaths": masks.readOnly,
            "resources": [
                "devices": [["allow": false, "access": "rwm"]],
                "memory": ["limit": limits.memory],
                "cpu": ["quota": Int(limits.cpus * Double(period)), "period": period],
                "pids": ["limit": limits.pids],
            ],
            "seccomp": seccomp,
        ]
    }

    private func mount(_ target: String, _ type: String, _ options: [String]) -> [String: Any] {
        ["destination": target, "type": type, "source": type, "options": options]
    }
}

extension CrunConfiguration {
    /// `SystemCallPolicy` in the format's words.
    private var seccomp: [String: Any] {
        let (mayNot, isUnknown) = (1, 38)  // EPERM, ENOSYS
        var calls: [[String: Any]] = [
            ["names": SystemCallPolicy.allowed, "action": "SCMP_ACT_ALLOW"],
            ["names": SystemCallPolicy.absent, "action": "SCMP_ACT_ERRNO", "errnoRet": isUnknown],
            allow("clone", [(0, SystemCallPolicy.cloneNamespaces, 0)]),
            allow("unshare", [(0, SystemCallPolicy.unshareNamespaces, 0)]),
            allow("seccomp", [(1, SystemCallPolicy.seccompListener, 0)]),
            allow("socket", [(0, Self.int, UInt64(AF_UNIX))]),
        ]
        calls += SystemCallPolicy.personalities.map { allow("personality", [(0, Self.int, $0)]) }
        for family in [AF_INET, AF_INET6] {
            for type: UInt64 in [1, 2] {
                for proto: UInt64 in [0, 6, 17, 262] {
                    calls.append(
                        allow("socket", [(0, Self.int, UInt64(family)), (1, 0xf, type), (2, Self.int, proto)])
                    )
                }
            }
        }
        for proto: UInt64 in [0, 4] {
            calls.append(allow("socket", [(0, Self.int, UInt64(AF_NETLINK)), (2, Self.int, proto)]))
        }
        return [
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": mayNot,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": calls,
        ]
    }

    private static let int: UInt64 = 0xffff_ffff

    private func allow(_ call: String, _ arguments: [(index: Int, mask: UInt64, value: UInt64)]) -> [String: Any] {
        [
            "names": [call],
            "action": "SCMP_ACT_ALLOW",
            "args": arguments.map { argument -> [String: Any] in
                [
                    "index": argument.index, "value": argument.mask, "valueTwo": argument.value,
                    "op": "SCMP_CMP_MASKED_EQ",
                ]
            },
        ]
    }
}

extension Capability {
    /// The name in the OCI format.
    fileprivate var ociName: String {
        switch self {
        case .chown: "CAP_CHOWN"
        case .dacOverride: "CAP_DAC_OVERRIDE"
        case .fowner: "CAP_FOWNER"
        case .fsetid: "CAP_FSETID"
        case .kill: "CAP_KILL"
        case .setgid: "CAP_SETGID"
        case .setuid: "CAP_SETUID"
        case .setpcap: "CAP_SETPCAP"
        case .netBindService: "CAP_NET_BIND_SERVICE"
        case .sysChroot: "CAP_SYS_CHROOT"
        case .setfcap: "CAP_SETFCAP"
        }
    }
}
