import Foundation
import LinuxSystem
import Testing

@testable import Orchestrator

extension LabRootTests {
    @Suite struct LabTracesTests {
        /// Compares all that a machine has before and after a lab, in namespaces where nothing else changes anything.
        @Test func nothingOfTheMachineIsChanged() throws {
            try LabFixture.with("traces") { fixture in
                let supervisor = try #require(LabFixture.supervisor)
                let layout = fixture.layout.arguments.joined(separator: " ")
                let lab = { (verb: String) in "\(supervisor) lab \(verb) \(layout)" }
                let cgroup = fixture.layout.cgroup
                let script = """
                    set -e
                    snapshot() {
                        ip -d link; ip address; ip route; ip -6 route; ip rule; ip netns; nft list ruleset
                        cat /proc/self/mountinfo
                        ls -d /sys/fs/cgroup/*\(cgroup) /sys/fs/cgroup\(cgroup) 2>/dev/null || true
                        readlink /proc/self/ns/*
                        sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding kernel.hostname
                    }
                    snapshot > \(fixture.directory)/before
                    \(lab("up")) --hosts 2 --binary \(fixture.standIn) -o json > \(fixture.directory)/up
                    snapshot > \(fixture.directory)/during
                    \(lab("down"))
                    snapshot > \(fixture.directory)/after
                    """
                let machine = ["unshare", "--net", "--mount", "--uts", "--propagation", "private"]
                let result = try HelperCommand(machine + ["sh", "-c", script]).run(timeout: .seconds(60))
                #expect(result.status == 0, "\(result.error)")
                let read = { (name: String) in
                    try String(contentsOfFile: fixture.directory + "/" + name, encoding: .utf8).split(separator: "\n")
                }
                #expect(try read("after") == read("before"))
                // Even while it is up, a lab shows in nothing but its cgroups.
                let cgroups = { (lines: [Substring]) in lines.filter { !$0.hasPrefix("/sys/fs/cgroup") } }
                #expect(try cgroups(read("during")) == read("before"))
            }
        }
    }
}
