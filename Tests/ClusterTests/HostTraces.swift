import Foundation
import LinuxSystem
import Orchestrator
import Testing

/// What the hosts of a lab hold of their SMIs: directories, mounts, links, addresses, routes, packet filters, cgroups and
/// processes.
struct HostTraces: Equatable {
    private var found: [String: [String]] = [:]

    init(of cluster: ClusterFixture) async throws {
        let (lab, hosts) = (cluster.lab, cluster.hosts)
        found = try await offload {
            var found: [String: [String]] = [:]
            for host in hosts where lab.status().hosts.contains(where: { $0.name == host && $0.holder != nil }) {
                let layout = lab.layout
                let script = """
                    ls -A \(layout.state)/smis \(layout.run)/smis; ip -o link | cut -d: -f2; ip -o addr | tr -s ' '
                    ip route; ip -6 route; nft list ruleset; grep -o ' \(layout.state)/smis[^ ]*' /proc/self/mountinfo
                    """
                let result = try lab.command(on: host, ["sh", "-c", script]).run()
                found[host] = result.output.split(separator: "\n").map(String.init).sorted()
                found[host + " cgroups"] = CgroupTree(layout.cgroup(of: host)).directories.flatMap(Self.members)
                    .sorted()
            }
            return found
        }
    }

    /// The cgroups of SMIs below a host's, and the processes that help with hand-offs.
    private static func members(of directory: String) -> [String] {
        let cgroups = Directories.entries(of: directory + "/smis").filter { name in
            Directories.exists(directory + "/smis/" + name + "/cgroup.procs")
        }
        let helpers = (try? FileContents.string(of: directory + "/aux/cgroup.procs")) ?? ""
        return cgroups + helpers.split(separator: "\n").map { "helper \($0)" }
    }

    /// Waits, with a limit, until the hosts hold what they held before: what a refusal or a removal leaves is gone.
    static func expect(
        _ cluster: ClusterFixture,
        asBefore before: HostTraces,
        _ what: String,
        at location: SourceLocation = #_sourceLocation
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(10)
        var now = try await HostTraces(of: cluster)
        while now != before, ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(100))
            now = try await HostTraces(of: cluster)
        }
        for (place, lines) in now.found where lines != before.found[place] {
            let difference = lines.difference(from: before.found[place] ?? []).map { "\($0)" }
            Issue.record("\(what) left on \(place): \(difference)", sourceLocation: location)
        }
    }
}
