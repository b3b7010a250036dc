import Foundation
import LinuxSystem
import Testing

@testable import Orchestrator

extension LabRootTests {
    @Suite struct LabUpTests {
        @Test func aLabHasItsHostsReadyAndLeavesNothingBehind() throws {
            try LabFixture.with("whole") { fixture in
                let before = try Traces.of(fixture.layout)
                let started = ContinuousClock.now
                let status = try fixture.up(3)
                print("lab up with three hosts: \(started.duration(to: .now))")
                #expect(status.state == "up")
                #expect(status.hosts.map(\.name) == ["host1", "host2", "host3"])
                #expect(status.hosts.allSatisfy { $0.state == "running" && $0.daemon != nil && $0.restarts == 0 })
                let aps = try String(contentsOfFile: fixture.directory + "/aps.csv", encoding: .utf8)
                #expect(aps == "ap,x_m,y_m,host\nap1,0,0,host1\nap2,100,0,host2\nap3,200,0,host3\n")
                let ended = ContinuousClock.now
                #expect(try fixture.lab.down().found)
                print("lab down with three hosts: \(ended.duration(to: .now))")
                try Traces.expect(fixture.layout, asBefore: before)
                #expect(fixture.lab.status().state == "down")
                #expect(try fixture.lab.down() == LabTeardown(found: false, processes: 0))
            }
        }

        @Test func hostsReachEachOtherOverShapedLinks() throws {
            try LabFixture.with("links") { fixture in
                try fixture.up(2)
                for address in ["10.77.0.2", "fd77::2", "10.77.0.1", "fd77::1"] {
                    #expect(try fixture.reaches("host1", address), "\(address)")
                }
                let shape = try fixture.shell("host2", "tc qdisc show dev eth0").output
                #expect(shape.contains("tbf") && shape.contains("rate 50Mbit"))
                let port = try fixture.fabric("tc qdisc show dev port2").output
                #expect(port.contains("tbf") && port.contains("rate 50Mbit"))
                let forwarding = try fixture.shell(
                    "host1",
                    "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"
                )
                #expect(forwarding.output == "1\n1\n")
            }
        }

        @Test func eachHostHasANameAClockAndDirectoriesOfItsOwn() throws {
            try LabFixture.with("own") { fixture in
                try fixture.up(2, rate: "none")
                let layout = fixture.layout
                #expect(try fixture.shell("host2", "cat /proc/sys/kernel/hostname").output == "host2\n")
                let clock = { (host: String) in
                    Double(try fixture.shell(host, "cat /proc/uptime").output.split(separator: " ").first ?? "") ?? 0
                }
                let difference = try clock("host2") - clock("host1")
                #expect((999...1010).contains(difference))
                _ = try fixture.shell(
                    "host1",
                    "touch \(layout.state)/mine \(layout.run)/mine \(layout.configuration)/mine"
                )
                let seen = try fixture.shell("host2", "ls \(layout.state) \(layout.run) \(layout.configuration)").output
                #expect(!seen.contains("mine"))
                _ = try fixture.shell("host1", "echo image > \(layout.images)/a")
                #expect(try fixture.shell("host2", "cat \(layout.images)/a").output == "image\n")
                #expect(try fixture.shell("host2", "stat -f -c %T /run").output == "tmpfs\n")
                #expect(try fixture.shell("host2", "ls \(layout.state)").output == "images\n")
                #expect(try fixture.shell("host1", "tc qdisc show dev eth0").output.contains("noqueue"))
                _ = try fixture.lab.down()
                // Images outlive the lab.
                #expect(try String(contentsOfFile: layout.images + "/a", encoding: .utf8) == "image\n")
                try FileManager.default.removeItem(atPath: layout.images + "/a")
            }
        }

        @Test func theDefaultSocketsLeadToTheFirstHost() throws {
            try LabFixture.with("sockets") { fixture in
                let status = try fixture.up(1)
                let holder = try #require(status.hosts[0].holder)
                for name in LabLayout.sockets {
                    let link = fixture.layout.run + "/" + name
                    let target = try FileManager.default.destinationOfSymbolicLink(atPath: link)
                    #expect(target == "/proc/\(holder)/root\(fixture.layout.run)/\(name)")
                    #expect(FileManager.default.fileExists(atPath: link))
                    #expect(status.hosts[0].sockets.contains(target))
                }
                // Somebody else's file in that place is not the lab's to remove.
                let other = fixture.layout.run + "/smirun.sock"
                unlink(other)
                try "mine".write(toFile: other, atomically: true, encoding: .utf8)
                _ = try fixture.lab.down()
                #expect(FileManager.default.fileExists(atPath: other))
                #expect(throws: LabError.self) { try fixture.up(1) }
                unlink(other)
            }
        }

        @Test func theSameLabAgainIsASuccessAndAnotherOneIsRefused() throws {
            try LabFixture.with("again") { fixture in
                let first = try fixture.up(2)
                #expect(try fixture.up(2) == first)
                let error = #expect(throws: LabError.self) { try fixture.up(3) }
                #expect(error?.code == .alreadyUp)
                #expect(fixture.lab.status() == first)
            }
        }

        @Test func aDaemonThatCannotStartIsNamedWithItsLog() throws {
            try LabFixture.with("broken") { fixture in
                try "".write(toFile: fixture.directory + "/broken.host2", atomically: true, encoding: .utf8)
                let error = #expect(throws: LabError.self) { try fixture.up(2) }
                #expect(error?.code == .daemonFailed)
                #expect(error?.cause.contains("host2") ?? false)
                #expect(error?.log?.contains("host2 is broken") ?? false)
                #expect(fixture.lab.status().state == "failed")
                #expect(!CgroupTree(fixture.layout.cgroup).exists)
                // What failed is no obstacle to the next try.
                unlink(fixture.directory + "/broken.host2")
                #expect(try fixture.up(2).state == "up")
            }
        }

        @Test func commandsOnAHostKeepTheirStatusAndOutput() throws {
            try LabFixture.with("exec") { fixture in
                try fixture.up(1)
                let supervisor = try #require(LabFixture.supervisor)
                let exec = [supervisor, "lab", "exec"] + fixture.layout.arguments + ["host1", "--"]
                let result = try HelperCommand(exec + ["sh", "-c", "hostname; cat; echo bad >&2; exit 7"]).run(
                    input: "in\n"
                )
                #expect(result.output == "host1\nin\n")
                #expect(result.error == "bad\n")
                #expect(result.status == 7)
                #expect(try HelperCommand(exec + ["sh", "-c", "kill -9 $$"]).run().status == 137)
                #expect(try HelperCommand(exec + ["/does/not/exist"]).run().status == 127)
                let pipe = try HelperCommand(exec + ["sh", "-c", "grep SigIgn /proc/self/status"]).run()
                let ignored = UInt64(
                    pipe.output.split(separator: "\t").last?.trimmingCharacters(in: .newlines) ?? "",
                    radix: 16
                )
                #expect((ignored ?? 0) & (1 << 12) == 0)
            }
        }
    }
}
