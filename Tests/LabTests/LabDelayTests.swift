import Foundation
import LinuxSystem
import Testing

@testable import Orchestrator

extension LabRootTests {
    @Suite struct LabDelayTests {
        /// Milliseconds from a connection attempt to its refusal, one round trip: the shortest of five.
        private func roundTrip(_ fixture: LabFixture) throws -> Double {
            // The first attempt also resolves the neighbour's address, with delays of its own.
            _ = try fixture.reaches("host1", "10.77.0.2")
            let script = """
                for i in 1 2 3 4 5; do
                    a=${EPOCHREALTIME/[.,]/}
                    (echo > /dev/tcp/10.77.0.2/9) 2>/dev/null
                    b=${EPOCHREALTIME/[.,]/}
                    echo $((b - a))
                done
                """
            let output = try fixture.lab.command(on: "host1", ["bash", "-c", script]).run().output
            return (output.split(separator: "\n").compactMap { Double($0) }.min() ?? 0) / 1000
        }

        @Test func linksAreDelayedEachWay() throws {
            try LabFixture.with("delay") { fixture in
                let plan = try LabPlan(hosts: 2, rate: LinkRate(parsing: "50mbit"), delay: 20)
                let status = try fixture.lab.up(plan)
                #expect(status.state == "up")
                #expect(status.hosts.allSatisfy { $0.delay == 20 })
                // Two links, each way: 80 ms at least, and no later than a busy machine explains.
                let time = try roundTrip(fixture)
                print("round trip over two links of 20 ms: \(time) ms")
                #expect((80..<200).contains(time))
                #expect(try fixture.reaches("host2", "fd77::1"))
                #expect(try fixture.shell("host2", "tc qdisc show dev eth0").output.contains("rate 50Mbit"))
            }
        }

        @Test func aLinkWhoseProcessIsKilledWorksAgain() throws {
            try LabFixture.with("delaykill") { fixture in
                let before = try Traces.of(fixture.layout)
                let plan = try LabPlan(hosts: 2, rate: .unshaped, delay: 1)
                _ = try fixture.lab.up(plan)
                let record = RecordFile.load(SupervisorRecord.self, from: fixture.layout.supervisorRecord)
                try #require(record?.links["host2"]?.process).signal(SIGKILL)
                let deadline = ContinuousClock.now + .seconds(20)
                while try !fixture.reaches("host1", "10.77.0.2", within: 1), ContinuousClock.now < deadline {}
                #expect(try fixture.reaches("host1", "10.77.0.2"))
                try fixture.lab.killHost("host2")
                #expect(try fixture.lab.up(plan).state == "up")
                #expect(try fixture.reaches("host1", "10.77.0.2"))
                _ = try fixture.lab.down()
                try Traces.expect(fixture.layout, asBefore: before)
            }
        }
    }
}
