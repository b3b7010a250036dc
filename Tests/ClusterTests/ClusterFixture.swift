import Foundation
import Glibc
import LinuxSystem
import Orchestrator
import Testing

/// A lab for one test, in directories and cgroups of its own; down again whatever the test does.
struct ClusterFixture: Sendable {
    let lab: Lab
    let smirun: Smirun
    let hosts: [String]
    let plan: LabPlan

    /// Brings a lab up, runs the test in it and takes it down.
    static func with(
        hosts: Int = 2,
        rate: String = "none",
        _ body: (ClusterFixture) async throws -> Void
    ) async throws {
        let base = "/var/lib/smirun-test-\(getpid())"
        let layout = LabLayout(
            state: base,
            run: "/run/smirun-test-\(getpid())",
            configuration: base + "-etc",
            cgroup: "/smirun-test-\(getpid())"
        )
        let binary = URL(fileURLWithPath: Smirun.binary).resolvingSymlinksInPath().path
        let lab = Lab(layout: layout, binary: binary)
        try TestImages.link(into: layout.images)
        defer {
            for path in [base, layout.run, base + "-etc"] { try? FileManager.default.removeItem(atPath: path) }
        }
        let plan = try LabPlan(hosts: hosts, spacing: 69, rate: LinkRate(parsing: rate), delay: 0)
        do {
            let status = try await offload { try lab.up(plan) }
            let fixture = ClusterFixture(
                lab: lab,
                smirun: Smirun(socket: layout.run + "/smirun.sock"),
                hosts: status.hosts.map(\.name),
                plan: plan
            )
            try await body(fixture)
        } catch {
            _ = try? await offload { try lab.down() }
            throw error
        }
        _ = try await offload { try lab.down() }
    }

    /// Hosts whose cgroup of an SMI holds processes.
    func copies(of user: String) throws -> Int {
        let unified = try #require(CgroupHierarchy.mounted().first { $0.isUnified })
        return hosts.filter { host in
            let path = unified.mount + lab.layout.cgroup(of: host) + "/smis/\(user)/cgroup.procs"
            return (try? String(contentsOfFile: path, encoding: .utf8))?.isEmpty == false
        }.count
    }

    /// Launches a machine that serves sessions only, from the small image.
    func launch(_ user: String, image: String = "busybox", _ program: [String] = []) async throws {
        let result = try await smirun.run(["launch", user, "--image", image, "--"] + program)
        try #require(result.status == 0, "\(result.error)")
    }
}

/// The images that the tests use; `scripts/run-tests` has built them.
enum TestImages {
    static let directory = "/var/lib/smirun/images"

    /// Makes the images visible in a lab of its own, without copying.
    static func link(into target: String) throws {
        try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
        for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
            try FileManager.default.linkItem(atPath: directory + "/" + name, toPath: target + "/" + name)
        }
    }
}
