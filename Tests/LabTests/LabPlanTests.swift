import Foundation
import Testing

@testable import LinuxSystem
@testable import Orchestrator

@Suite struct LabPlanTests {
    @Test(arguments: [
        ("50mbit", 50_000_000), ("1gbit", 1_000_000_000), ("800kbit", 800_000), ("9600bit", 9600),
        ("2.5mbit", 2_500_000),
        ("50Mbit", 50_000_000),
    ])
    func ratesAreRead(_ text: String, _ bits: Int64) throws {
        #expect(try LinkRate(parsing: text).bitsPerSecond == bits)
    }

    @Test(arguments: ["", "50", "fast", "-1mbit", "0mbit", "nanmbit", "infgbit", "mbit", "1e9gbit", "50mbit;reboot"])
    func otherRatesAreRefused(_ text: String) {
        let error = #expect(throws: LabError.self) { try LinkRate(parsing: text) }
        #expect(error?.code == .badArgument)
    }

    @Test(arguments: ["50mbit", "none", "1gbit", "9600bit"])
    func aRatePrintsAsItIsWritten(_ text: String) throws {
        let rate = try LinkRate(parsing: text)
        #expect(rate.description == text)
        #expect(try JSONDecoder().decode([LinkRate].self, from: JSONEncoder().encode([rate])) == [rate])
    }

    @Test func theBurstFitsTheRate() throws {
        #expect(try LinkRate(parsing: "50mbit").queueDiscipline == "tbf rate 50000000bit burst 32768b latency 50ms")
        #expect(try LinkRate(parsing: "1gbit").queueDiscipline == "tbf rate 1000000000bit burst 500000b latency 50ms")
        #expect(LinkRate.unshaped.queueDiscipline == nil)
    }

    @Test(arguments: [("0ms", 0), ("0", 0), ("20ms", 20), ("1.5s", 1500), ("500us", 0.5)])
    func delaysAreRead(_ text: String, _ milliseconds: Double) throws {
        #expect(try LabPlan.delay(parsing: text) == milliseconds)
    }

    @Test(arguments: ["20", "ms", "soon", "1m", ""])
    func otherDelaysAreRefused(_ text: String) {
        #expect(throws: LabError.self) { try LabPlan.delay(parsing: text) }
    }

    @Test(arguments: [
        (0, 100.0, 0.0), (51, 100, 0), (-1, 100, 0), (3, 0, 0), (3, .infinity, 0), (3, 100, -1), (3, 100, 20_000),
    ])
    func labsThatCannotBeMadeAreRefused(_ hosts: Int, _ spacing: Double, _ delay: Double) {
        let error = #expect(throws: LabError.self) {
            try LabPlan(hosts: hosts, spacing: spacing, rate: .unshaped, delay: delay)
        }
        #expect(error?.code == .badArgument)
        #expect(error?.remedy.isEmpty == false)
    }

    @Test func fiftyHostsHaveAddressesOfTheirOwn() {
        let hosts = (1...50).map { LabHost(name: "host\($0)", index: $0, rate: .unshaped) }
        #expect(Set(hosts.map(\.address)).count == 50)
        #expect(Set(hosts.map(\.address6)).count == 50)
        #expect(Set(hosts.map(\.mac)).count == 50)
        #expect(hosts[49].mac == "02:4c:41:42:00:32")
        #expect(hosts[49].address6 == "fd77::32")
    }

    @Test func hierarchiesOfBothVersionsAreFound() {
        let table = """
            31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
            33 31 0:30 / /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 - cgroup2 cgroup2 rw,nsdelegate
            """
        let found = CgroupHierarchy.mounted(mountinfo: table)
        #expect(found.map(\.mount) == ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified"])
        #expect(found[0].controllers.contains("cpuacct"))
        #expect(found[1].isUnified)
        let tree = CgroupTree("/smirun-lab", in: found)
        #expect(tree.unified == "/sys/fs/cgroup/unified/smirun-lab")
        #expect(tree.child("host1").directories.count == 2)
    }
}
