import Foundation
import Isolation
import LinuxSystem

/// Looks at everything that a host needs, for `smirun doctor`; changes nothing.
package struct HostDiagnosis: Sendable {
    let paths: HostPaths

    /// A diagnosis of the host with these paths.
    package init(paths: HostPaths) {
        self.paths = paths
    }

    /// One finding for each thing that matters.
    package func findings() -> [FindingView] {
        [user(), kernel(), criu(), cgroups(), capabilities(), tools(), files(), disk()]
    }

    private func finding(_ what: String, _ good: Bool, _ finding: String, _ remedy: String) -> FindingView {
        FindingView(level: good ? "ok" : "error", what: what, finding: finding, remedy: good ? nil : remedy)
    }

    private func user() -> FindingView {
        finding("user", geteuid() == 0, geteuid() == 0 ? "root" : "not root", "run smirun as root")
    }

    private func kernel() -> FindingView {
        let release = (try? FileContents.string(of: "/proc/sys/kernel/osrelease"))?.trimmed ?? "unknown"
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        let recent = numbers.count == 2 && (numbers[0], numbers[1]) >= (6, 12)
        return finding("kernel", recent, release, "boot kernel 6.12 or newer (PAGEMAP_SCAN, file-backed erofs)")
    }

    private func criu() -> FindingView {
        do {
            let installation = try CriuInstallation.find(paths: paths)
            return finding("criu", true, "\(installation.version)", "")
        } catch {
            return finding("criu", false, error.cause, error.remedy)
        }
    }

    private func cgroups() -> FindingView {
        let hierarchies = CgroupHierarchy.mounted()
        let unified = hierarchies.contains { $0.isUnified }
        let legacy = hierarchies.count - (unified ? 1 : 0)
        let mode = legacy == 0 ? "v2" : "v1 controllers (\(legacy) hierarchies) and v2"
        return finding("cgroups", unified, unified ? mode : "no cgroup2 mount", "mount cgroup2: freezing needs it")
    }

    private func capabilities() -> FindingView {
        let status = (try? FileContents.string(of: "/proc/self/status")) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("CapEff:") }
        let held = line.flatMap { UInt64($0.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16) } ?? 0
        let needed: [(String, UInt64)] = [
            ("SYS_ADMIN", 21), ("NET_ADMIN", 12), ("SYS_PTRACE", 19), ("CHECKPOINT_RESTORE", 40), ("SYS_CHROOT", 18),
        ]
        let missing = needed.filter { held & (1 << $0.1) == 0 }.map(\.0)
        return finding(
            "capabilities",
            missing.isEmpty,
            missing.isEmpty ? "all that are needed" : "missing: \(missing.joined(separator: " "))",
            "run smirun as root on the machine itself, not in a restricted container"
        )
    }

    private func tools() -> FindingView {
        let missing = ["nft", "ip", "mkfs.erofs"].filter { HelperCommand.locate($0) == nil }
        return finding(
            "tools",
            missing.isEmpty,
            missing.isEmpty ? "nft, ip, mkfs.erofs" : "missing: \(missing.joined(separator: " "))",
            "apt-get install nftables iproute2 erofs-utils"
        )
    }

    private func files() -> FindingView {
        let missing = ["smi-init", "libsmirun-criu.so"].filter {
            !FileManager.default.fileExists(atPath: paths.libexec + "/" + $0)
        }
        return finding(
            "libexec",
            missing.isEmpty,
            missing.isEmpty ? paths.libexec : "\(missing.joined(separator: " ")) missing in \(paths.libexec)",
            "run `make build`, or `make install`"
        )
    }

    private func disk() -> FindingView {
        let place = FileManager.default.fileExists(atPath: paths.state) ? paths.state : "/var/lib"
        let free =
            (try? FileManager.default.attributesOfFileSystem(forPath: place))?[.systemFreeSize] as? Int64 ?? 0
        let megabytes = free >> 20
        return finding("disk", megabytes >= 1024, "\(megabytes) MB free at \(place)", "free at least 1024 MB there")
    }
}
