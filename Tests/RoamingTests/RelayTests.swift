import Logging
import Synchronization
import Testing

@testable import Mobility

@Suite("Events that go to the host that decides")
struct RelayTests {
    private func event(_ user: String?, station: String? = nil, ap: [String] = ["ap1"]) -> RoamingEvent {
        RoamingEvent(
            kind: .associated,
            time: 1,
            received: 1,
            station: station,
            userName: user,
            ap: ap,
            source: .radius
        )
    }

    @Test("bear the names that this host's configuration knows")
    func localNames() throws {
        let directory = RoamingDirectory(
            aliases: ["02:00:00:00:00:0a": "north"],
            stations: ["02:53:4d:00:00:01": "ann"]
        )
        let known = try #require(
            directory.localised(event("host/x", station: "02:53:4d:00:00:01", ap: ["02:00:00:00:00:0a", "nas"]))
        )
        #expect(known.userName == "ann")
        #expect(known.ap == ["north", "02:00:00:00:00:0a", "nas"])
        let strange = event("bob", station: "02:53:4d:00:00:02", ap: ["elsewhere"])
        #expect(directory.localised(strange) == strange)
        #expect(
            directory.localised(event("ann", station: "02:53:4d:00:00:02")) == nil,
            "not the device that ann is followed by"
        )
    }

    @Test("arrive in order, none lost, however slow the way is")
    func order() async throws {
        let queue = RelayQueue(limit: 8, batch: 3)
        async let received: [Double] = {
            var times: [Double] = []
            while let batch = await queue.next() {
                #expect(batch.count <= 3)
                times += batch.map(\.time)
                await Task.yield()
            }
            return times
        }()
        for number in 0..<1000 {
            var event = event("ann")
            event.time = Double(number)
            await queue.put(event)
        }
        queue.finish()
        #expect(await received == (0..<1000).map(Double.init))
    }

    @Test("are handed on by the sources, unjudged")
    func sources() async throws {
        let sources = try RoamingSources(configuration: .init(), logger: Logger(label: "test"))
        let got = Mutex<[RoamingEvent]>([])
        let running = Task {
            try await sources.relay { batch in got.withLock { $0 += batch } }
        }
        #expect(sources.roam(user: "ann", ap: "ap1", at: 1))
        #expect(sources.roam(user: "ann", ap: "ap1", at: 1))
        let deadline = ContinuousClock.now + .seconds(10)
        while got.withLock(\.count) < 2 {
            try #require(ContinuousClock.now < deadline)
            try await Task.sleep(for: .milliseconds(2))
        }
        running.cancel()
        try await running.value
        #expect(got.withLock { $0 }.allSatisfy { $0.userName == "ann" && $0.ap == ["ap1"] })
    }
}
