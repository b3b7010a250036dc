import Foundation
import LinuxSystem
import Testing

@testable import Orchestrator

/// What this machine has of a lab.
///
/// Other suites change the machine at the same time, so only what carries the lab's names counts here; `LabTracesTests`
/// compares everything, on a machine of its own.
struct Traces: Equatable {
    var links: [String]
    var routes: [String]
    var mounts: [String]
    var cgroups: [String]
    var processes: [String]
    var directories: [String]

    /// Expects the machine to have no more of a lab than before.
    static func expect(
        _ layout: LabLayout,
        asBefore before: Traces,
        _ location: SourceLocation = #_sourceLocation
    ) throws {
        let now = try Traces.of(layout)
        #expect(now.links == before.links, sourceLocation: location)
        #expect(now.routes == before.routes, sourceLocation: location)
        #expect(now.mounts == before.mounts, sourceLocation: location)
        #expect(now.cgroups == before.cgroups, sourceLocation: location)
        #expect(now.processes == before.processes, sourceLocation: location)
        #expect(now.directories == before.directories, sourceLocation: location)
    }

    static func of(_ layout: LabLayout) throws -> Traces {
        let ours = { (line: Substring) in
            [layout.state, layout.run, layout.configuration, layout.cgroup].contains { line.contains($0 + "/") }
        }
        let ip = { (arguments: [String]) in
            try HelperCommand(["ip"] + arguments).run().output.split(separator: "\n").map(String.init)
        }
        let mounts = try FileContents.string(of: "/proc/self/mountinfo").split(separator: "\n")
        return Traces(
            links: try ip(["-o", "link"]).filter { $0.contains(" fabric") || $0.contains(" port") },
            routes: try (ip(["route"]) + ip(["-6", "route"])).filter { $0.contains("10.77.") || $0.contains("fd77:") },
            mounts: mounts.filter(ours).map(String.init),
            cgroups: CgroupTree(layout.cgroup).directories.filter { FileManager.default.fileExists(atPath: $0) },
            processes: try processes(naming: layout),
            directories: [layout.directory, layout.run, layout.configuration].filter {
                FileManager.default.fileExists(atPath: $0)
            }
        )
    }

    /// Processes in the lab's cgroups, or started with its paths.
    private static func processes(naming layout: LabLayout) throws -> [String] {
        let tree = CgroupTree(layout.cgroup)
        return try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { entry in
            // One that has ended and waits for its parent is no trace.
            guard let pid = Int32(entry), pid != getpid(), ProcessIdentity(pid: pid) != nil else { return nil }
            let words = try? FileContents.string(of: "/proc/\(pid)/cmdline")
            let variables = try? FileContents.string(of: "/proc/\(pid)/environ")
            let named = [words, variables].contains { $0?.contains(layout.state) ?? false }
            return named || tree.contains(pid) ? "\(pid): \(words ?? "")" : nil
        }
    }
}
