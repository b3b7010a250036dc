import Testing

@testable import Mobility

/// The normaliser under events in any order, repeated, and told by several sources: truths are made at random, told the
/// way real sources tell them, and must come out as they were.
@Suite struct NormalizerOrderTests {
    /// A stay of the truth.
    private struct Visit {
        var user: String
        var ap: String
        var time: Double
        /// True where the user was nowhere before.
        var fresh: Bool
    }

    private struct World {
        var visits: [Visit] = []
        /// When each user left for good.
        var ends: [(user: String, ap: String, time: Double)] = []
        var events: [RoamingEvent] = []
    }

    /// Users who walk among five access points, staying `dwell` seconds.
    ///
    /// `delay`: how late events may be received.
    private func world(seed: UInt64, dwell: ClosedRange<Double>, delay: ClosedRange<Double>) -> World {
        var random = SplitMix(state: seed)
        var world = World()
        var session = 0
        for number in 0..<4 {
            let user = "u\(number)"
            var time = 1000 + Double.random(in: 0...5, using: &random)
            var here = "a\(Int.random(in: 0..<5, using: &random))"
            for step in 0..<12 {
                session += 1
                world.visits.append(Visit(user: user, ap: here, time: time, fresh: step == 0))
                world.events += tell(user, here, at: time, "s\(session)", delay, &random)
                let stay = Double.random(in: dwell, using: &random)
                // The Stop of the access point that was left, dated when the access point noticed.
                let noticed = step == 11 ? stay : stay + Double.random(in: 0...200, using: &random)
                var stop = Say.stop("m-\(user)", here, at: time + noticed, session: "s\(session)", seconds: noticed)
                stop.received += Double.random(in: delay, using: &random)
                world.events.append(stop)
                if step == 11 { world.ends.append((user, here, time + stay)) }
                time += stay
                let left = here
                while here == left { here = "a\(Int.random(in: 0..<5, using: &random))" }
            }
        }
        world.events.sort { $0.received < $1.received }
        return world
    }

    /// One association as RADIUS (whole seconds or not, repeated or not) and hostapd tell it.
    private func tell(
        _ user: String,
        _ ap: String,
        at time: Double,
        _ session: String,
        _ delay: ClosedRange<Double>,
        _ random: inout SplitMix
    ) -> [RoamingEvent] {
        var events = [Say.associated("m-\(user)", ap, at: time, session: session, user: user)]
        if Bool.random(using: &random) { events.append(events[0]) }
        if Bool.random(using: &random) {
            events.append(Say.associated("m-\(user)", ap, at: time, source: .hostapd, user: user))
        }
        for index in events.indices { events[index].received = time + Double.random(in: delay, using: &random) }
        return events
    }

    private func settings(window: Double) -> RoamingNormalizer.Settings {
        var settings = RoamingNormalizer.Settings()
        settings.reorderWindow = window
        return settings
    }

    private func expected(_ world: World, user: String) -> [String] {
        let stays = world.visits.filter { $0.user == user }
        let ends = world.ends.filter { $0.user == user }
        return stays.map { "\($0.fresh ? "start" : "roam") \($0.ap)@\($0.time)" }
            + ends.map { "stop \($0.ap)@\($0.time)" }
    }

    @Test(arguments: 0..<200)
    func disorderWithinTheWindowLeavesNoTrace(_ seed: UInt64) {
        let world = world(seed: seed, dwell: 2...30, delay: 0...8)
        var normalizer = RoamingNormalizer(settings: settings(window: 8))
        let records = normalizer.run(world.events)
        for user in ["u0", "u1", "u2", "u3"] {
            let seen = records.filter { $0.user == user }.map { "\($0.kind.rawValue) \($0.ap)@\($0.time)" }
            #expect(seen == expected(world, user: user), "seed \(seed)")
        }
    }

    @Test(arguments: 0..<200)
    func withoutAWindowDelaysShorterThanStaysLeaveNoTrace(_ seed: UInt64) {
        let world = world(seed: seed, dwell: 3...30, delay: 0...2.9)
        var normalizer = RoamingNormalizer(settings: settings(window: 0))
        let records = normalizer.run(world.events)
        for user in ["u0", "u1", "u2", "u3"] {
            let seen = records.filter { $0.user == user }.map { "\($0.kind.rawValue) \($0.ap)@\($0.time)" }
            #expect(seen == expected(world, user: user), "seed \(seed)")
        }
    }

    @Test(arguments: 0..<200)
    func anyDisorderKeepsTheInvariantsAndEndsInTheRightPlace(_ seed: UInt64) {
        let world = world(seed: seed, dwell: 1...20, delay: 0...60)
        for window in [0, 1, 10.0] {
            var normalizer = RoamingNormalizer(settings: settings(window: window))
            checkInvariants(normalizer.run(world.events), world, seed: seed)
        }
    }

    @Test(arguments: 0..<100)
    func shuffledEventsKeepTheInvariants(_ seed: UInt64) {
        var random = SplitMix(state: seed)
        var world = world(seed: seed, dwell: 1...20, delay: 0...1)
        let clock = world.events.map(\.received)
        world.events.shuffle(using: &random)
        for (index, time) in clock.enumerated() { world.events[index].received = max(time, world.events[index].time) }
        var normalizer = RoamingNormalizer(settings: settings(window: seed % 2 == 0 ? 0 : 5))
        checkInvariants(normalizer.run(world.events), world, seed: seed)
    }

    /// Per user: times never go back, a record never names the access point of the one before, starts come first or
    /// after stops and nowhere else, and the last word is about the place where the truth ended.
    private func checkInvariants(_ records: [RoamingRecord], _ world: World, seed: UInt64) {
        for (user, ap, _) in world.ends {
            let mine = records.filter { $0.user == user }
            #expect(mine.first?.kind == .start)
            for (before, after) in zip(mine, mine.dropFirst()) {
                #expect(before.time <= after.time, "seed \(seed)")
                #expect(
                    (after.kind == .start) == (before.kind == .stop),
                    "seed \(seed): \(before.brief), \(after.brief)"
                )
                #expect((after.kind == .stop) == (before.ap == after.ap && before.kind != .stop), "seed \(seed)")
            }
            #expect(mine.last?.ap == ap, "seed \(seed)")
        }
    }
}
