import Foundation
import LinuxSystem
import Testing

@testable import Orchestrator

extension LabRootTests {
    @Suite struct LabFaultTests {
        @Test func aKilledDaemonIsStartedAgain() throws {
            try LabFixture.with("killed") { fixture in
                let before = try fixture.up(2)
                let pid = try fixture.lab.kill("host2")
                #expect(pid == before.hosts[1].daemon)
                #expect(fixture.becomes { $0.hosts[1].restarts == 1 && $0.hosts[1].state == "running" })
                let after = fixture.lab.status()
                #expect(after.hosts[1].daemon != pid)
                #expect(after.hosts[0] == before.hosts[0])
            }
        }

        @Test func aDaemonThatKeepsDyingIsStartedLessAndLessOften() throws {
            try LabFixture.with("dying") { fixture in
                try fixture.up(1)
                try "".write(toFile: fixture.directory + "/broken.host1", atomically: true, encoding: .utf8)
                try fixture.lab.kill("host1")
                #expect(fixture.becomes { $0.hosts[0].state == "backing-off" })
                unlink(fixture.directory + "/broken.host1")
                #expect(fixture.becomes { $0.hosts[0].state == "running" })
                #expect(LabSupervisor.pause(after: 1) == .zero)
                #expect(LabSupervisor.pause(after: 2) == .milliseconds(100))
                #expect(LabSupervisor.pause(after: 50) == LabSupervisor.longestPause)
            }
        }

        @Test func aKilledSupervisorIsReplacedAndTheDaemonsGoOn() throws {
            try LabFixture.with("adopted") { fixture in
                let before = try fixture.up(2)
                let supervisor = try #require(before.supervisor)
                kill(supervisor, SIGKILL)
                waitpid(supervisor, nil, 0)
                #expect(fixture.lab.status().state == "degraded")
                // One daemon dies while nobody watches.
                try fixture.lab.kill("host2")
                let after = try fixture.up(2)
                #expect(after.state == "up")
                #expect(after.supervisor != supervisor)
                #expect(after.hosts[0].daemon == before.hosts[0].daemon)
                #expect(after.hosts[1].daemon != before.hosts[1].daemon)
                try fixture.lab.kill("host1")
                #expect(
                    fixture.becomes { $0.hosts[0].state == "running" && $0.hosts[0].daemon != before.hosts[0].daemon }
                )
            }
        }

        @Test func aDaemonThatNoRecordNamesIsAdoptedFromItsCgroup() throws {
            try LabFixture.with("unnamed") { fixture in
                let before = try fixture.up(1)
                let supervisor = try #require(before.supervisor)
                kill(supervisor, SIGKILL)
                waitpid(supervisor, nil, 0)
                unlink(fixture.layout.supervisorRecord)
                #expect(try fixture.up(1).hosts[0].daemon == before.hosts[0].daemon)
            }
        }

        @Test func aKilledHostIsMadeAgainWithItsState() throws {
            try LabFixture.with("host") { fixture in
                let before = try fixture.up(3)
                _ = try fixture.shell("host2", "touch \(fixture.layout.state)/kept \(fixture.layout.run)/lost")
                try fixture.lab.killHost("host2")
                let killed = fixture.lab.status()
                #expect(killed.state == "degraded")
                #expect(killed.hosts[1].state == "down")
                #expect(CgroupTree(fixture.layout.cgroup(of: "host2")).processes().isEmpty)
                #expect(throws: LabError.self) { try fixture.lab.command(on: "host2", ["true"]) }
                #expect(try !fixture.reaches("host1", "10.77.0.2", within: 1))
                let after = try fixture.up(3)
                #expect(after.state == "up")
                #expect(after.hosts[0] == before.hosts[0])
                #expect(try fixture.shell("host2", "ls \(fixture.layout.state)").output == "images\nkept\n")
                #expect(try !fixture.shell("host2", "ls \(fixture.layout.run)").output.contains("lost"))
                #expect(try fixture.reaches("host1", "10.77.0.2"))
            }
        }

        @Test(arguments: ["holder", "cgroup"]) func aHostThatDiedOtherwiseIsMadeAgain(_ way: String) throws {
            try LabFixture.with("died") { fixture in
                let before = try fixture.up(2)
                let host = CgroupTree(fixture.layout.cgroup(of: "host2"))
                let holder = try #require(before.hosts[1].holder)
                if way == "holder" {
                    kill(holder, SIGKILL)
                } else {
                    try FileContents.write("1", to: #require(host.unified) + "/cgroup.kill")
                }
                waitpid(holder, nil, 0)
                #expect(fixture.lab.status().hosts[1].state == "down")
                let after = try fixture.up(2)
                #expect(after.state == "up")
                #expect(after.hosts[1].daemon != before.hosts[1].daemon)
                // Nothing of the old host is left beside the new one.
                let daemons = host.child("daemon").processes().compactMap { ProcessStat(pid: $0) }
                #expect(daemons.filter { $0.name == "smirun" }.count == 1)
                #expect(try fixture.reaches("host1", "10.77.0.2"))
            }
        }

        @Test func aLinkCanBeCutRestoredAndSlowed() throws {
            try LabFixture.with("cut") { fixture in
                try fixture.up(2)
                try fixture.lab.cut("host2")
                #expect(fixture.lab.status().hosts[1].cut)
                #expect(try !fixture.reaches("host1", "10.77.0.2", within: 1))
                // Silently: the host itself sees nothing of it.
                #expect(try fixture.shell("host2", "ip link show eth0").output.contains("LOWER_UP"))
                try fixture.lab.restore("host2")
                #expect(try fixture.reaches("host1", "10.77.0.2"))
                try fixture.lab.setRate("host2", LinkRate(parsing: "2mbit"))
                #expect(fixture.lab.status().hosts[1].rate == "2mbit")
                #expect(try fixture.shell("host2", "tc qdisc show dev eth0").output.contains("rate 2Mbit"))
                try fixture.lab.setRate("host2", .unshaped)
                #expect(try !fixture.shell("host2", "tc qdisc show dev eth0").output.contains("tbf"))
                let error = #expect(throws: LabError.self) { try fixture.lab.cut("host9") }
                #expect(error?.code == .hostUnknown)
            }
        }
    }
}
