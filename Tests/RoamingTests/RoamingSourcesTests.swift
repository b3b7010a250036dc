import Foundation
import Logging
import Testing

@testable import Mobility

@Suite struct RoamingSourcesTests {
    private static let radius = RoamingSourcesConfiguration.Radius(
        listen: "127.0.0.1:0",
        clients: [.init(address: "127.0.0.0/8", secret: "testing123")]
    )

    @Test func aStartReachesTheSinkAndIsAnswered() async throws {
        let configuration = RoamingSourcesConfiguration(radius: Self.radius)
        try await withSources(configuration) { sources, records in
            let port = try #require(sources.listening.radiusPort)
            let now = UInt32(Date().timeIntervalSince1970)
            let request = RadiusClient.request(timestamp: now, extra: [(33, [1]), (33, [2])])
            let answer = try #require(UDPClient(port: port).ask(request))
            #expect(try RadiusPacket(parsing: answer).values(33).map(Array.init) == [[1], [2]])
            let seen = await records.wait { $0.count == 1 }
            #expect(seen.map(\.user) == ["ann"])
            #expect(seen.map(\.ap) == ["02:00:00:00:00:0a"])
            #expect(seen.map(\.time) == [Double(now)])
            #expect(sources.counts["radius_accepted"] == 1)
        }
    }

    @Test func repetitionsAreAnsweredAndCountedOnce() async throws {
        try await withSources(RoamingSourcesConfiguration(radius: Self.radius)) { sources, records in
            let client = UDPClient(port: try #require(sources.listening.radiusPort))
            let request = RadiusClient.request()
            let first = try #require(client.ask(request))
            let second = try #require(client.ask(request))
            #expect(first == second)
            #expect(await records.wait { !$0.isEmpty }.count == 1)
            #expect(sources.counts["radius_accepted"] == 1)
            #expect((sources.counts["radius_duplicates"] ?? 0) >= 1)
        }
    }

    @Test func linesAndMapNamesMeet() async throws {
        let configuration = RoamingSourcesConfiguration(aps: ["02-00-00-00-00-0A": "north"])
        try await withSources(configuration, accessPoints: ["north", "south"]) { sources, records in
            #expect(sources.roam(user: "ann", ap: "02:00:00:00:00:0a"))
            #expect(sources.roam(user: "ann", ap: "nowhere"))
            #expect(sources.roam(user: "ann", ap: "south"))
            #expect(await records.wait { $0.count == 2 }.map(\.ap) == ["north", "south"])
            try sources.update(accessPoints: ["north", "south", "nowhere"])
            // The new names hold for the event after the one that finds them.
            #expect(sources.roam(user: "bob", ap: "south"))
            _ = await records.wait { $0.count == 3 }
            #expect(sources.roam(user: "ann", ap: "nowhere"))
            #expect(await records.wait { $0.count == 4 }.last?.ap == "nowhere")
        }
    }

    @Test func aStopLeavesAfterItsGraceByItself() async throws {
        let configuration = RoamingSourcesConfiguration(roaming: .init(grace: 0.2))
        try await withSources(configuration) { sources, records in
            #expect(sources.roam(user: "ann", ap: "a"))
            #expect(sources.roam(user: "ann", ap: "a", kind: .stop))
            #expect(await records.wait { $0.count == 2 }.map(\.kind) == [.start, .stop])
        }
    }

    @Test func unusableConfigurationsAreRefusedWithTheirKey() {
        func problem(_ configuration: RoamingSourcesConfiguration) -> RoamingError? {
            do throws(RoamingError) {
                _ = try RoamingSources(configuration: configuration, logger: Logger(label: "test"))
                return nil
            } catch {
                return error
            }
        }
        #expect(problem(.init(radius: .init(listen: "nowhere")))?.cause.contains("radius.listen") == true)
        #expect(problem(.init(radius: .init(clients: [.init(address: "10.0.0.0/99", secret: "s")]))) != nil)
        #expect(problem(.init(radius: .init(clients: [.init(address: "10.0.0.0/8", secret: "")]))) != nil)
        #expect(
            problem(.init(mec: .init(subscribers: [.init(url: "ftp://x")])))?.cause.contains("mec.subscribers") == true
        )
        #expect(problem(.init(stations: ["m": "Not A User"]))?.cause.contains("stations") == true)
        #expect(problem(.init()) == nil)
    }

    @Test func aPortThatIsTakenIsSaidSo() async throws {
        try await withSources(RoamingSourcesConfiguration(radius: Self.radius)) { sources, _ in
            let port = try #require(sources.listening.radiusPort)
            let other = RoamingSourcesConfiguration(radius: .init(listen: "127.0.0.1:\(port)", clients: []))
            let second = try RoamingSources(
                configuration: other,
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            )
            await #expect(throws: RoamingError.self) { try await second.run { _ in } }
        }
    }

    @Test func theConfigurationIsCodableWithAbsentSections() throws {
        let json =
            #"{"radius":{"listen":":1813","clients":[{"address":"10.0.0.0/8","secret":"s"}]},"stations":{"m":"ann"}}"#
        let decoded = try JSONDecoder().decode(RoamingSourcesConfiguration.self, from: Data(json.utf8))
        #expect(decoded.radius?.clients?.first?.secret == "s")
        #expect(decoded.stations == ["m": "ann"])
        #expect(decoded.mec == nil)
    }

    @Test("know the access points of the map and the configuration, and others only where that is configured")
    func knownAccessPoints() throws {
        let logger = Logger(label: "test")
        let strict = try RoamingSources(configuration: .init(aps: ["nas-1": "north"]), logger: logger)
        #expect(strict.knows(accessPoint: "north") && strict.knows(accessPoint: "NAS-1"))
        #expect(!strict.knows(accessPoint: "south"))
        try strict.update(accessPoints: ["south"])
        #expect(strict.knows(accessPoint: "south"))
        let open = try RoamingSources(configuration: .init(roaming: .init(unknown: true)), logger: logger)
        #expect(open.knows(accessPoint: "anywhere"))
    }
}
