import Glibc
import Isolation
import LinuxSystem

/// What a probe's report must say.
enum IsolationRules {
    static func violations(in report: ProbeReport, _ expected: IsolationProbe.Expectation) -> [String] {
        names(report, expected) + privileges(report) + namespaces(report) + descriptors(report) + processes(report)
            + mounts(report) + proc(report) + devices(report) + calls(report)
    }

    private static func expect(_ condition: Bool, _ sentence: @autoclosure () -> String) -> [String] {
        condition ? [] : [sentence()]
    }

    private static func names(_ report: ProbeReport, _ expected: IsolationProbe.Expectation) -> [String] {
        let resolvers = report.values["resolv"] ?? []
        let cgroups = report.values["cgroup"] ?? []
        return expect(report["hostname"] == expected.hostname, "the host name is \(report["hostname"] ?? "none")")
            + expect(expected.resolvers.allSatisfy(resolvers.contains), "resolv.conf holds \(resolvers)")
            + expect(
                report.values["hosts"]?.contains { $0.hasSuffix(" " + expected.hostname) } ?? false,
                "/etc/hosts does not name the sandbox"
            )
            + expect(
                !cgroups.isEmpty && cgroups.allSatisfy { !$0.contains("smirun") && !$0.contains("..") },
                "the cgroup namespace shows \(cgroups)"
            )
    }

    private static func privileges(_ report: ProbeReport) -> [String] {
        var status: [String: String] = [:]
        for line in report.values["status"] ?? [] {
            let parts = line.split(separator: ":", maxSplits: 1).map(String.init)
            if parts.count == 2 { status[parts[0]] = parts[1].filter { $0 != "\t" && $0 != " " } }
        }
        let bits = String(CapabilitySet.sandbox.bits, radix: 16)
        let all = String(repeating: "0", count: 16 - bits.count) + bits
        let none = String(repeating: "0", count: 16)
        let wanted = [
            "CapInh": none, "CapPrm": all, "CapEff": all, "CapBnd": all, "CapAmb": none, "NoNewPrivs": "1",
            "Seccomp": "2",
            "Groups": "",
        ]
        return wanted.sorted { $0.key < $1.key }.flatMap { key, value in
            expect(status[key] ?? "" == value, "\(key) is \(status[key] ?? "missing") and not \(value)")
        } + expect(report["rlimit.core"] == "0", "core dumps are allowed")
    }

    private static func namespaces(_ report: ProbeReport) -> [String] {
        let inside = report.group("ns")
        return ["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"].flatMap { kind -> [String] in
            var buffer = [CChar](repeating: 0, count: 128)
            let count = readlink("/proc/self/ns/\(kind)", &buffer, buffer.count - 1)
            let host = String(decoding: buffer[..<max(0, count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            return expect(inside[kind] != nil && inside[kind] != host, "the \(kind) namespace is the host's")
        }
    }

    private static func descriptors(_ report: ProbeReport) -> [String] {
        report.group("fd").sorted { $0.key < $1.key }.flatMap { number, target in
            expect(
                (Int(number) ?? 99) <= 2 && !target.hasPrefix("/") || target == "/dev/null",
                "descriptor \(number) is \(target)"
            )
        }
    }

    private static func processes(_ report: ProbeReport) -> [String] {
        let processes = report.group("process")
        return expect(processes["1"] == "smi-init", "process 1 is \(processes["1"] ?? "missing")")
            + expect(processes["2"] != "kthreadd", "the host's processes are visible")
            + expect(processes.count < 20, "there are \(processes.count) processes")
    }

    /// Fields of a line of mountinfo: 3 root, 4 mount point, 5 options; then ` - type source options`.
    private static func mounts(_ report: ProbeReport) -> [String] {
        let masks = ProcMasks.all.present
        let covered = Set(masks.files + masks.directories + masks.readOnly)
        var seen: Set<String> = []
        var wrong: [String] = []
        for line in report.values["mount"] ?? [] {
            let fields = line.split(separator: " ").map(String.init)
            guard fields.count > 8, let dash = fields.firstIndex(of: "-"), dash + 3 < fields.count else { continue }
            let (point, options, type) = (fields[4], fields[5], fields[dash + 1])
            let fileSystem = fields[(dash + 1)...].joined(separator: " ")
            seen.insert(point)
            switch point {
            case "/": wrong += expect(type == "overlay", "the root is \(type)")
            case "/proc": wrong += expect(type == "proc" && options.contains("nosuid"), "/proc is \(line)")
            case "/dev/pts": wrong += expect(type == "devpts", "/dev/pts is \(type)")
            default:
                wrong += expect(covered.contains(point), "\(point) is mounted")
                // Of this mount, or of the whole file system.
                let flags = (options + "," + (fields.last ?? "")).split(separator: ",")
                wrong += expect(flags.contains("ro"), "\(point) is mounted read-write")
            }
            wrong += expect(
                !fileSystem.contains("=/") && !fileSystem.contains("upperdir=/") && !fileSystem.contains(":/"),
                "\(point) shows a path of the host: \(fileSystem)"
            )
        }
        return wrong
            + covered.union(["/", "/proc", "/dev/pts"]).subtracting(seen).sorted().map { "\($0) is not mounted" }
    }

    private static func proc(_ report: ProbeReport) -> [String] {
        let writable = report.values["writable"] ?? []
        let readable = report.group("read").filter { (Int($0.value) ?? 0) > 0 }
        let switches = report.group("write").filter { $0.value != "\(EROFS)" && $0.value != "\(ENOENT)" }
        return expect(writable.isEmpty, "can be written to: \(writable)")
            + expect(readable.isEmpty, "can be read: \(readable.keys.sorted())")
            + expect(switches.isEmpty, "can be opened for writing: \(switches)")
    }

    private static func devices(_ report: ProbeReport) -> [String] {
        let names = Set(report.group("devname").keys)
        let known: Set = [
            "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin", "stdout", "stderr",
        ]
        let closed = report.group("device").filter { $0.value != "0" }
        let made = report.group("mknod").filter { $0.key != "fifo" && $0.value != "\(EPERM)" }
        return expect(names.isSubset(of: known), "/dev holds \(names.subtracting(known).sorted())")
            + expect(closed.isEmpty && report.group("device").count == 6, "devices do not open: \(closed)")
            + expect(made.isEmpty, "devices can be made: \(made)")
            + expect(report["mknod.fifo"] == "0", "a FIFO cannot be made")
    }

    private static func calls(_ report: ProbeReport) -> [String] {
        var wrong: [String] = []
        func answers(_ group: String, _ names: [String: String], _ code: Int32) {
            for (name, answer) in names.sorted(by: { $0.key < $1.key }) where answer != "\(code)" {
                wrong.append("\(group) \(name) answers \(answer) and not \(code)")
            }
        }
        let calls = report.group("call")
        let absent = Set(SystemCallPolicy.absent)
        answers("system call", calls.filter { !absent.contains($0.key) }, EPERM)
        answers("system call", calls.filter { absent.contains($0.key) }, ENOSYS)
        answers("system call", report.group("number"), ENOSYS)
        answers("clone", report.group("clone"), EPERM)
        answers("unshare", report.group("unshare"), EPERM)
        answers("seccomp listener", report.group("listener"), EPERM)
        let remaps = report.group("remap")
        answers("mremap of", remaps.filter { $0.key != "a_page" }, EINVAL)
        answers("mremap of", remaps.filter { $0.key == "a_page" }, 0)
        wrong += expect(remaps.count == 4, "only \(remaps.count) calls of mremap were probed")
        answers("personality", report.group("personality"), EPERM)
        let allowed: Set = ["tcp", "udp6", "unix", "route"]
        answers("socket", report.group("socket").filter { !allowed.contains($0.key) }, EPERM)
        answers("socket", report.group("socket").filter { allowed.contains($0.key) }, 0)
        wrong += expect(calls.count > 45, "only \(calls.count) system calls were probed")
        wrong += expect(report.group("clone").count == 8 && report.group("unshare").count == 8, "namespaces not probed")
        return wrong
    }
}
