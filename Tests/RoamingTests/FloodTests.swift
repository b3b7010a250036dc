import Foundation
import Synchronization
import Testing

@testable import Mobility

/// What bad input may cost: a counter, a line of log now and then, and nothing else.
@Suite(.serialized) struct FloodTests {
    /// What floods are made of: no packet, a stranger's secret, a broken attribute, the wrong code, random bytes.
    private static func rubbish() -> [[UInt8]] {
        var random = SplitMix(state: 1)
        let good = RadiusClient.request()
        return [
            Array(good.prefix(15)), RadiusClient.request(secret: Array("guess".utf8)), good.dropLast() + [0],
            [1] + good.dropFirst(),
            (0..<200).map { _ in UInt8.random(in: 0...255, using: &random) }, [UInt8](repeating: 4, count: 1400),
        ]
    }

    @Test func aFloodOfBadDatagramsNeitherGrowsMemoryNorStarvesGoodOnes() async throws {
        let radius = RoamingSourcesConfiguration.Radius(
            listen: "127.0.0.1:0",
            clients: [.init(address: "127.0.0.1", secret: "testing123")]
        )
        try await withSources(RoamingSourcesConfiguration(radius: radius)) { sources, records in
            let port = try #require(sources.listening.radiusPort)
            let flood = Flood(port: port, packets: Self.rubbish())
            try await Task.sleep(for: .milliseconds(500))
            let before = residentMemory()
            let good = 50
            let latencies = await Self.askOnThread(port: port, count: good)
            let growth = residentMemory() - before
            let (sent, seconds) = await flood.stop()
            let counts = sources.counts
            let received = counts["radius_received"] ?? 0
            print(
                "flood: \(Int(Double(sent) / seconds)) bad datagrams/s sent, \(Int(Double(received) / seconds))/s received,",
                "\(latencies.count) of \(good) good ones answered,",
                "median \((latencies.isEmpty ? 0 : latencies[latencies.count / 2]).rounded(.up)) ms,",
                "worst \((latencies.last ?? 0).rounded(.up)) ms, memory grew by \(growth >> 10) KiB"
            )
            #expect(latencies.count == good)
            #expect(await records.wait { $0.count == good }.count == good)
            #expect(growth < 32 << 20)
            #expect((counts["radius_bad_authenticator"] ?? 0) > 0)
            #expect((counts["radius_malformed"] ?? 0) > 0)
            #expect((counts["radius_unexpected_code"] ?? 0) > 0)
        }
    }

    /// Sends good requests one by one from a thread of its own, repeating them as access points do.
    ///
    /// Where this machine has no time for us, the kernel's queue runs over and only repetition helps. Gives the
    /// milliseconds that each took, sorted.
    private static func askOnThread(port: Int, count: Int) async -> [Double] {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                let client = UDPClient(port: port, timeoutMilliseconds: 100)
                var latencies: [Double] = []
                for index in 0..<count {
                    let start = ContinuousClock.now
                    let request = RadiusClient.request(
                        identifier: UInt8(index & 255),
                        called: "02-00-00-00-00-\(index % 2 == 0 ? "0A" : "0B")",
                        session: "s\(index)"
                    )
                    guard client.ask(request, attempts: 100) != nil else { continue }
                    latencies.append((ContinuousClock.now - start) / .milliseconds(1))
                    usleep(5000)
                }
                continuation.resume(returning: latencies.sorted())
            }
        }
    }

    @Test func authenticRequestsThatFindNoRoomStayUnansweredAndAreTakenLater() async throws {
        let taken = Collector<RoamingEvent>()
        let isOpen = Collector<Void>()
        let counters = RoamingCounters()
        var clients = IPPrefixTable<RadiusResponder.Client>()
        clients.insert(.init(secret: RadiusClient.secret), at: try #require(IPPrefix("127.0.0.1")))
        let server = try await RadiusServer.start(
            listen: ListenAddress(host: "127.0.0.1", port: 0),
            responder: RadiusResponder(clients: clients),
            counters: counters,
            log: .silent
        ) { event in
            guard !isOpen.all.isEmpty else { return false }
            taken.add(event)
            return true
        }
        let client = UDPClient(port: try #require(server.address?.port), timeoutMilliseconds: 200)
        #expect(client.ask(RadiusClient.request(), attempts: 2) == nil)
        isOpen.add(())
        #expect(client.ask(RadiusClient.request()) != nil)
        #expect(taken.all.count == 1)
        #expect(counters.snapshot[.radiusOverload] == 2)
        await server.stop()
    }

    @Test func theNormaliserTakesEventsFasterThanAccessPointsMakeThem() {
        var normalizer = RoamingNormalizer()
        var random = SplitMix(state: 5)
        let users = 20_000
        let events = (0..<400_000).map { index -> RoamingEvent in
            let user = Int.random(in: 0..<users, using: &random)
            let ap = "ap\(Int.random(in: 0..<500, using: &random))"
            return Say.associated(
                "m\(user)",
                ap,
                at: Double(index) / 1000,
                session: "s\(index)",
                user: "u\(user)",
                nas: "n1"
            )
        }
        let before = residentMemory()
        // Time of this thread, not of the clock: other work on the machine is not the normaliser's.
        let start = threadSeconds()
        var records = 0
        for event in events { records += normalizer.on(event, now: event.time).count }
        let seconds = max(threadSeconds() - start, 1e-9)
        let perUser = max(0, residentMemory() - before) / users
        print("normaliser: \(Int(Double(events.count) / seconds)) events/s on one core, about \(perUser) bytes a user")
        #expect(records > 390_000)
        #expect(Double(events.count) / seconds > 20_000)
    }
}

/// Sends rubbish, 50,000 datagrams a second, from a thread of its own.
private final class Flood: Sendable {
    private let isOver = Mutex(false)
    private let outcome = Collector<(sent: Int, seconds: Double)>()

    init(port: Int, packets: [[UInt8]]) {
        Thread.detachNewThread { [self] in
            let client = UDPClient(port: port)
            let start = ContinuousClock.now
            var sent = 0
            while !isOver.withLock({ $0 }) {
                for index in 0..<100 { client.send(packets[(sent + index) % packets.count]) }
                sent += 100
                let ahead = Double(sent) / 50_000 - (ContinuousClock.now - start) / .seconds(1)
                if ahead > 0 { usleep(UInt32(ahead * 1e6)) }
            }
            outcome.add((sent, (ContinuousClock.now - start) / .seconds(1)))
        }
    }

    func stop() async -> (sent: Int, seconds: Double) {
        isOver.withLock { $0 = true }
        return await outcome.wait { !$0.isEmpty }.first ?? (0, 1)
    }
}
