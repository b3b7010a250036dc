import Foundation
import Testing

@testable import Mobility

/// RADIUS as others speak it.
@Suite(.serialized, .enabled(if: Peer.areInstalled("radclient", "freeradius"), "needs freeradius and freeradius-utils"))
struct RealRadiusTests {
    private func configuration() -> RoamingSourcesConfiguration {
        RoamingSourcesConfiguration(
            radius: .init(listen: "127.0.0.1:0", clients: [.init(address: "127.0.0.1", secret: "testing123")])
        )
    }

    private func request(_ status: String, ap: String, session: String, extra: String = "") -> String {
        """
        User-Name = "ann", Acct-Status-Type = \(status), Acct-Session-Id = "\(session)", \
        Calling-Station-Id = "02-00-00-00-05-01", Called-Station-Id = "\(ap):corp", \
        Event-Timestamp = \(Int(Date().timeIntervalSince1970))\(extra)

        """
    }

    private func radclient(_ port: Int, _ secret: String, _ input: String, command: String = "acct") throws -> Int32 {
        let (status, output) = try Peer.run(
            ["radclient", "-r", "5", "-t", "1", "127.0.0.1:\(port)", command, secret],
            input: input
        )
        if status != 0 { print(output) }
        return status
    }

    @Test func radclientIsAnswered() async throws {
        try await withSources(configuration()) { sources, records in
            let port = try #require(sources.listening.radiusPort)
            #expect(try radclient(port, "testing123", request("Start", ap: "02-00-00-00-00-0A", session: "1")) == 0)
            let signed = request(
                "Start",
                ap: "02-00-00-00-00-0B",
                session: "2",
                extra: ", Message-Authenticator = 0x00"
            )
            #expect(try radclient(port, "testing123", signed) == 0)
            #expect(try radclient(port, "testing123", request("Stop", ap: "02-00-00-00-00-0A", session: "1")) == 0)
            #expect(try radclient(port, "testing123", "Message-Authenticator = 0x00\n", command: "status") == 0)
            let seen = await records.wait { $0.count == 2 }.map { "\($0.user) \($0.kind.rawValue) \($0.ap)" }
            #expect(seen == ["ann start 02:00:00:00:00:0a", "ann roam 02:00:00:00:00:0b"])
            #expect(sources.counts["radius_status_server"] == 1)
        }
    }

    @Test func radclientWithAnotherSecretIsNot() async throws {
        try await withSources(configuration()) { sources, records in
            let port = try #require(sources.listening.radiusPort)
            let input = request("Start", ap: "02-00-00-00-00-0A", session: "1")
            let (status, _) = try Peer.run(
                ["radclient", "-r", "1", "-t", "1", "127.0.0.1:\(port)", "acct", "guess"],
                input: input
            )
            #expect(status != 0)
            #expect(sources.counts["radius_bad_authenticator"] == 1)
            #expect(records.all.isEmpty)
        }
    }

    @Test func aFreeRADIUSProxyInFrontOfUsIsUnderstood() async throws {
        try await withDirectory { directory in
            try await withSources(configuration()) { sources, records in
                let upstream = try #require(sources.listening.radiusPort)
                let port = freePort()
                let text = proxyConfiguration(directory: directory, listen: port, upstream: upstream)
                try text.write(toFile: "\(directory)/radiusd.conf", atomically: true, encoding: .utf8)
                let command = ["freeradius", "-f", "-l", "stdout", "-d", directory, "-n", "radiusd"]
                let proxy = try Peer(command, directory: directory, name: "proxy")
                defer { proxy.stop() }
                #expect(await proxy.wait(for: "Ready to process requests"), "\(proxy.output)")
                for (index, ap) in ["02-00-00-00-00-0A", "02-00-00-00-00-0B", "02-00-00-00-00-0C"].enumerated() {
                    let extra = index == 1 ? ", Message-Authenticator = 0x00, Proxy-State = 0x010203" : ""
                    let input = request("Start", ap: ap, session: "\(index)", extra: extra)
                    #expect(try radclient(port, "proxied", input) == 0, "\(proxy.output)")
                }
                let seen = await records.wait { $0.count == 3 }.map { "\($0.user) \($0.kind.rawValue) \($0.ap)" }
                #expect(
                    seen == ["ann start 02:00:00:00:00:0a", "ann roam 02:00:00:00:00:0b", "ann roam 02:00:00:00:00:0c"]
                )
            }
        }
    }
}

/// hostapd and wpa_supplicant over wires: real EAP, real accounting, real control sockets.
@Suite(
    .serialized,
    .enabled(if: geteuid() == 0, "needs root"),
    .enabled(
        if: Peer.areInstalled("hostapd", "wpa_supplicant", "wpa_cli", "ip"),
        "needs hostapd, wpasupplicant, iproute2"
    )
)
struct RealAccessPointTests {
    /// Both sources at once: the supplicant's identity is known from hostapd only, as hostapd's accounting names the
    /// station; every association is told twice and is one record.
    @Test func associationsAndRoamsAreSeenOnceThroughBothSources() async throws {
        try await withNetwork { network in
            try await withSources(
                configuration(network),
                accessPoints: ["north", "south"],
                runDirectory: network.directory
            ) {
                sources,
                records in
                let port = try #require(sources.listening.radiusPort)
                let north = try network.startHostapd("ap1", port: port)
                let south = try network.startHostapd("ap2", port: port)
                defer { [north, south].forEach { $0.stop() } }
                #expect(await attached(sources, 2))
                let first = try network.startSupplicant("ap1")
                defer { first.stop() }
                #expect(await records.wait { $0.count == 1 }.map(brief) == ["ann start north"], "\(first.output)")
                let second = try network.startSupplicant("ap2")
                defer { second.stop() }
                #expect(await records.wait { $0.count == 2 }.map(brief) == ["ann start north", "ann roam south"])
                // The old access point's Stop comes after the new one's Start, and changes nothing.
                try network.logOff("ap1")
                #expect(await counted(sources, "stale_stops", 2))
                try network.logOff("ap2")
                let all = await records.wait { $0.count == 3 }.map(brief)
                #expect(all == ["ann start north", "ann roam south", "ann stop south"])
                // Once for sure: the first time, accounting may come before anybody has named the station's user.
                #expect(await counted(sources, "collapsed", 1))
                #expect((sources.counts["radius_accepted"] ?? 0) >= 4)
                #expect((sources.counts["hostapd_events"] ?? 0) >= 4)
            }
        }
    }

    @Test func aRestartedHostapdIsAttachedAgain() async throws {
        try await withNetwork { network in
            try await withSources(
                configuration(network),
                accessPoints: ["north", "south"],
                runDirectory: network.directory
            ) {
                sources,
                records in
                let port = try #require(sources.listening.radiusPort)
                let before = try network.startHostapd("ap1", port: port)
                defer { before.stop() }
                #expect(await attached(sources, 1))
                let first = try network.startSupplicant("ap1")
                defer { first.stop() }
                #expect(await records.wait { $0.count == 1 }.map(brief) == ["ann start north"], "\(first.output)")
                first.stop()
                before.stop()
                #expect(await records.wait { $0.count == 2 }.map(brief).last == "ann stop north")
                let after = try network.startHostapd("ap1", port: port, round: 1)
                defer { after.stop() }
                #expect(await attached(sources, 2))
                let second = try network.startSupplicant("ap1", round: 1)
                defer { second.stop() }
                #expect(await records.wait { $0.count == 3 }.map(brief).last == "ann start north")
            }
        }
    }

    private func brief(_ record: RoamingRecord) -> String { "\(record.user) \(record.kind.rawValue) \(record.ap)" }

    private func configuration(_ network: WiredAccessNetwork) -> RoamingSourcesConfiguration {
        RoamingSourcesConfiguration(
            radius: .init(listen: "0.0.0.0:0", clients: [.init(address: "\(network.theirs)", secret: "testing123")]),
            hostapd: .init(sockets: [
                .init(path: network.controlSocket("ap1"), ap: "north"), .init(path: network.controlSocket("ap2")),
            ]),
            aps: ["02:00:00:00:0a:01": "north", "02:00:00:00:0a:02": "south"],
            roaming: .init(grace: 1)
        )
    }

    private func withNetwork(_ body: (WiredAccessNetwork) async throws -> Void) async throws {
        try await withDirectory { directory in
            let network = try WiredAccessNetwork(accessPoints: ["ap1", "ap2"], directory: directory)
            defer { network.remove() }
            try await body(network)
        }
    }

    private func attached(_ sources: RoamingSources, _ times: Int) async -> Bool {
        await counted(sources, "hostapd_attached", times)
    }

    private func counted(_ sources: RoamingSources, _ counter: String, _ times: Int) async -> Bool {
        let end = ContinuousClock.now.advanced(by: .seconds(20))
        while (sources.counts[counter] ?? 0) < times, ContinuousClock.now < end {
            try? await Task.sleep(for: .milliseconds(20))
        }
        return (sources.counts[counter] ?? 0) >= times
    }
}
