import Foundation
import Isolation
import Logging
import Mobility
import Synchronization
import Testing

@testable import Orchestrator

@Suite("The configuration file")
struct HostConfigurationTests {
    @Test("has every section of docs/roaming-events.md")
    func documented() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(contentsOf: root.appendingPathComponent("docs/roaming-events.md"), encoding: .utf8)
        let example = try #require(text.components(separatedBy: "```toml\n").dropFirst().first)
        let toml = try #require(example.components(separatedBy: "```").first)
        let roaming = try HostConfiguration.parse(toml, name: "example").roaming
        #expect(roaming.radius?.listen == "0.0.0.0:1813")
        #expect(roaming.radius?.clients?.map(\.address) == ["10.20.0.0/16", "10.20.3.7"])
        #expect(roaming.radius?.clients?.last?.ap == "north-3")
        #expect(roaming.hostapd?.sockets == [.init(path: "/run/hostapd/wlan0", ap: "north-1")])
        #expect(roaming.mec?.limit == 1_048_576)
        #expect(roaming.mec?.subscribers?.map(\.url) == ["http://192.0.2.7:8080/amsi/callback"])
        #expect(roaming.stations?["02:53:4d:00:00:01"] == "ann")
        #expect(roaming.aps?["02-00-00-00-00-0a"] == "north-1")
        #expect(roaming.roaming == .init(reorder: 0, grace: 3, unknown: false))
    }

    @Test("takes whole seconds without a point, and other sections beside")
    func wholeSeconds() throws {
        let text = "[host]\nstate = \"/x\"\n[log]\nlevel = \"debug\"\n[roaming]\ngrace = 5\n"
        let configuration = try HostConfiguration.parse(text, name: "t")
        #expect(configuration.roaming.roaming?.grace == 5)
        #expect(configuration.paths.state == "/x")
        #expect(configuration.logLevel == "debug")
    }

    @Test(
        "names the key that is unknown or cannot be used",
        arguments: [
            ("[radius]\nlisen = \"x\"\n", "radius.lisen"),
            ("[[radius.clients]]\naddress = \"10.0.0.1\"\nsecrt = \"x\"\n", "radius.clients.secrt"),
            ("[[radius.clients]]\naddress = \"10.0.0.1\"\n", "radius.clients.secret"),
            ("[mec]\nlimit = \"big\"\n", "mec.limit"),
            ("radius = 3\n", "radius"),
            ("[roming]\ngrace = 1\n", "roming"),
        ]
    )
    func refused(_ text: String, _ key: String) {
        do {
            _ = try HostConfiguration.parse(text, name: "smirun.toml")
            Issue.record("\(text) was taken")
        } catch {
            let error = OrchestratorError(wrapping: error)
            #expect(error.code == .badArgument)
            #expect(error.cause.contains(key), "\(error.cause)")
        }
    }
}

@Suite("Notices of hand-offs")
struct HandoffNoticesTests {
    @Test("tell triggered, completed and failed with the SMI's addresses and the target's")
    func told() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        let told = Mutex<[MobilityNotice]>([])
        let notices = HandoffNotices(store: cluster.store) { notice in told.withLock { $0.append(notice) } }
        cluster.agent("h1").around.events.observe { notices.note($0) }
        _ = try await cluster.handOff()
        await notices.close()
        let list = told.withLock { $0 }
        #expect(list.map(\.status) == [.triggered, .completed])
        let record = try #require(try await cluster.store.record(of: "alice")?.record)
        #expect(list.allSatisfy { $0.ipv4 == record.spec.address.ipv4 && $0.ipv6 == record.spec.address.ipv6 })
        #expect(list.allSatisfy { $0.target == "10.0.0.2" && $0.user == "alice" })
    }
}
