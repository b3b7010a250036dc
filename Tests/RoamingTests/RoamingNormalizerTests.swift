import Testing

@testable import Mobility

@Suite struct RoamingNormalizerTests {
    private var normalizer = RoamingNormalizer(directory: RoamingDirectory(stations: ["m1": "ann", "m2": "bob"]))

    @Test mutating func associationsAreAStartThenRoamsAndRepeatAtOnce() {
        #expect(normalizer.on(Say.associated("m1", "a", at: 1), now: 1).map(\.brief) == ["start a@1"])
        let roam = normalizer.on(Say.associated("m1", "b", at: 5, session: "s"), now: 5)
        #expect(roam.map(\.brief) == ["roam b@5"])
        #expect(roam.first?.user == "ann")
        #expect(roam.first?.station == "m1")
        #expect(roam.first?.session == "s")
        #expect(normalizer.on(Say.associated("m1", "b", at: 6), now: 6).isEmpty)
        #expect(normalizer.tally[.duplicates] == 1)
    }

    @Test mutating func theOldAccessPointsLateStopIsIgnored() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1), Say.associated("m1", "b", at: 10),
            Say.stop("m1", "a", at: 9, received: 300),
            Say.stop("m1", "a", at: 300),
        ])
        #expect(records.map(\.brief) == ["start a@1", "roam b@10"])
        #expect(normalizer.tally[.staleStops] == 2)
    }

    @Test mutating func aStopBeforeTheNextStartIsARoam() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1), Say.stop("m1", "a", at: 10), Say.associated("m1", "b", at: 10.5),
        ])
        #expect(records.map(\.brief) == ["start a@1", "roam b@10.5"])
    }

    @Test mutating func aStopStandsAfterTheGrace() {
        _ = normalizer.on(Say.associated("m1", "a", at: 1), now: 1)
        #expect(normalizer.on(Say.stop("m1", "a", at: 10), now: 10).isEmpty)
        #expect(normalizer.due == 13)
        #expect(normalizer.advance(to: 12.9).isEmpty)
        #expect(normalizer.advance(to: 13).map(\.brief) == ["stop a@10"])
        #expect(normalizer.on(Say.associated("m1", "a", at: 20), now: 20).map(\.brief) == ["start a@20"])
    }

    @Test mutating func aStopLapsesWhereTheStationComesStraightBack() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1, session: "1"), Say.stop("m1", "a", at: 10, session: "1"),
            Say.associated("m1", "a", at: 11, session: "2"), Say.stop("m1", "a", at: 10, received: 12, session: "1"),
        ])
        #expect(records.map(\.brief) == ["start a@1"])
        #expect(normalizer.tally[.staleStops] == 1)
    }

    @Test mutating func aSecondStopGetsItsOwnGrace() {
        _ = normalizer.on(Say.associated("m1", "a", at: 1), now: 1)
        _ = normalizer.on(Say.stop("m1", "a", at: 10), now: 10)
        _ = normalizer.on(Say.associated("m1", "a", at: 11, session: "2"), now: 11)
        _ = normalizer.on(Say.stop("m1", "a", at: 12, session: "2"), now: 12)
        #expect(normalizer.advance(to: 14.9).isEmpty)
        #expect(normalizer.advance(to: 15).map(\.brief) == ["stop a@12"])
    }

    @Test mutating func aRepeatedStartDoesNotUndoAStop() {
        _ = normalizer.on(Say.associated("m1", "a", at: 10, session: "1"), now: 10)
        _ = normalizer.on(Say.stop("m1", "a", at: 12, session: "1"), now: 12)
        _ = normalizer.on(Say.associated("m1", "a", at: 10, received: 12.5, source: .hostapd), now: 12.5)
        _ = normalizer.on(Say.associated("m1", "a", at: 13, received: 13, session: "1"), now: 13)
        #expect(normalizer.finish().map(\.brief) == ["stop a@12"])
    }

    @Test mutating func theSameRoamToldByTwoSourcesIsOneRecord() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1, source: .hostapd), Say.associated("m1", "a", at: 1, received: 1.2),
            Say.associated("m1", "b", at: 10.85, source: .hostapd),
            Say.associated("m1", "b", at: 10, received: 11, session: "s", resolution: 1),
            Say.stop("m1", "b", at: 20.2, source: .hostapd), Say.stop("m1", "b", at: 20, received: 20.5, session: "s"),
        ])
        #expect(records.map(\.brief) == ["start a@1", "roam b@10.85", "stop b@20.2"])
        #expect(normalizer.tally[.collapsed] == 2)
    }

    @Test mutating func aSlowSourceDoesNotTurnThePastIntoARoam() {
        // RADIUS tells of B after hostapd has seen the user go to B and back to A.
        let records = normalizer.run([
            Say.associated("m1", "a", at: 0, source: .hostapd),
            Say.associated("m1", "a", at: 0, received: 0.1, session: "1"),
            Say.associated("m1", "b", at: 10, source: .hostapd), Say.associated("m1", "a", at: 11, source: .hostapd),
            Say.associated("m1", "b", at: 10, received: 11.3, session: "2", resolution: 1),
            Say.associated("m1", "a", at: 11, received: 11.4, session: "3", resolution: 1),
        ])
        #expect(records.map(\.brief) == ["start a@0", "roam b@10", "roam a@11"])
    }

    @Test mutating func aCoarseClockIsNotTakenForThePast() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 10.85, source: .hostapd),
            Say.associated("m1", "b", at: 10, received: 10.99, resolution: 1),
        ])
        #expect(records.map(\.brief) == ["start a@10.85", "roam b@10.85"])
    }

    @Test mutating func whatComesTooLateIsDropped() {
        let records = normalizer.run([
            Say.associated("m1", "b", at: 10), Say.associated("m1", "a", at: 5, received: 11),
            Say.associated("m1", "a", at: 5, received: 11, resolution: 1),
        ])
        #expect(records.map(\.brief) == ["start b@10"])
        #expect(normalizer.tally[.late] == 2)
    }

    @Test mutating func aReturnWithinTenSecondsIsAFlap() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 0), Say.associated("m1", "b", at: 20), Say.associated("m1", "a", at: 30),
            Say.associated("m1", "b", at: 40.5), Say.associated("m1", "c", at: 41), Say.associated("m1", "a", at: 42),
        ])
        #expect(records.map { $0.flap ?? false } == [false, false, true, false, false, false])
        #expect(normalizer.tally[.flaps] == 1)
    }

    @Test mutating func aResetEndsTheSessionsOfItsAccessPointOnly() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1, nas: "n1"), Say.associated("m2", "b", at: 1, nas: "n1"),
            Say.reset(ap: ["a"], at: 10),
        ])
        #expect(records.map { "\($0.user) \($0.brief)" } == ["ann start a@1", "bob start b@1", "ann stop a@10"])
    }

    @Test mutating func aResetOfAControllerEndsAllItsSessionsThatBeganBefore() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1, nas: "n1"), Say.associated("m2", "b", at: 12, nas: "n1"),
            Say.reset(nas: "n1", at: 10),
        ])
        #expect(records.map { "\($0.user) \($0.brief)" } == ["ann start a@1", "bob start b@12", "ann stop a@10"])
    }

    @Test mutating func aResetFollowedByAnAssociationElsewhereIsARoam() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1), Say.reset(ap: ["a"], at: 10), Say.associated("m1", "b", at: 11),
        ])
        #expect(records.map(\.brief) == ["start a@1", "roam b@11"])
    }

    @Test mutating func anInterimOfTheOldAccessPointChangesNothing() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1, session: "1"), Say.associated("m1", "b", at: 50, session: "2"),
            Say.interim("m1", "a", at: 60, session: "1", seconds: 59),
            Say.interim("m1", "a", at: 61, session: "x", seconds: 60),
            Say.interim("m1", "b", at: 62, session: "2", seconds: 12), Say.interim("m1", "c", at: 63),
        ])
        #expect(records.map(\.brief) == ["start a@1", "roam b@50"])
        #expect(normalizer.tally[.staleInterims] == 3)
    }

    @Test mutating func anInterimOfANewerSessionStandsForTheStartThatWasLost() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1, session: "1"), Say.interim("m1", "b", at: 60, session: "2", seconds: 10),
        ])
        #expect(records.map(\.brief) == ["start a@1", "roam b@50"])
        #expect(normalizer.tally[.recovered] == 1)
    }

    @Test mutating func theFirstInterimAfterARestartIsAStart() {
        #expect(normalizer.run([Say.interim("m1", "a", at: 60)]).map(\.brief) == ["start a@60"])
    }

    @Test mutating func anInterimOfAnEndedSessionDoesNotReviveIt() {
        _ = normalizer.on(Say.associated("m1", "a", at: 1, session: "1"), now: 1)
        _ = normalizer.on(Say.stop("m1", "a", at: 10, session: "1"), now: 10)
        _ = normalizer.advance(to: 20)
        #expect(normalizer.on(Say.interim("m1", "a", at: 30, session: "1"), now: 30).isEmpty)
        #expect(normalizer.on(Say.interim("m1", "a", at: 31, session: "2"), now: 31).map(\.brief) == ["start a@31"])
    }

    @Test mutating func aStopOfAnEarlierStayAtTheSameAccessPointIsStale() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1, session: "1"), Say.associated("m1", "b", at: 20, session: "2"),
            Say.associated("m1", "a", at: 40, source: .hostapd),
            Say.stop("m1", "a", at: 41, session: "1", seconds: 40), Say.stop("m1", "a", at: 42, seconds: 41),
        ])
        #expect(records.map(\.brief) == ["start a@1", "roam b@20", "roam a@40"])
        #expect(normalizer.tally[.staleStops] == 2)
    }

    @Test mutating func unknownStationsAreReportedOnceAndBounded() {
        var settings = RoamingNormalizer.Settings()
        settings.reportLimit = 3
        var normalizer = RoamingNormalizer(settings: settings)
        for round in 0..<20 {
            #expect(normalizer.on(Say.associated("x\(round % 10)", "a", at: Double(round)), now: Double(round)).isEmpty)
        }
        #expect(normalizer.takeReports() == [.unknownStation("x0"), .unknownStation("x1"), .unknownStation("x2")])
        #expect(normalizer.takeReports().isEmpty)
        #expect(normalizer.tally[.unknownStations] == 20)
    }

    @Test mutating func aNameToldOnceIsRememberedForTheStation() {
        let station = "aa:bb:cc:00:00:01"
        let records = normalizer.run([
            Say.associated(station, "a", at: 1, source: .hostapd),
            Say.associated(station, "a", at: 1.1, user: "Carol@example.org"),
            Say.associated(station, "b", at: 9, source: .hostapd),
        ])
        #expect(records.map { "\($0.user) \($0.brief)" } == ["carol start a@1.1", "carol roam b@9"])
    }

    @Test mutating func aUserOfTheStaticMapIsFollowedByItsDevicesOnly() {
        let records = normalizer.run([
            Say.associated("m1", "a", at: 1), Say.associated("laptop", "b", at: 2, user: "ann"),
        ])
        #expect(records.map(\.brief) == ["start a@1"])
        #expect(normalizer.tally[.otherStations] == 1)
    }

    @Test mutating func accessPointsGoByTheirMapNames() {
        let directory = RoamingDirectory(
            names: ["north", "south"],
            aliases: ["02-00-00-00-00-0A": "north", "02-00-00-00-00-0B": "north", "nas7": "south"],
            stations: ["AA-BB-CC-00-00-01": "ann"]
        )
        var normalizer = RoamingNormalizer(directory: directory)
        let records = normalizer.run([
            Say.associated("aa:bb:cc:00:00:01", "02:00:00:00:00:0a", at: 1),
            Say.associated("aa:bb:cc:00:00:01", "02:00:00:00:00:0b", at: 2),
            Say.associated("aa:bb:cc:00:00:01", "NAS7", at: 3),
            Say.associated("aa:bb:cc:00:00:01", "elsewhere", at: 4),
            Say.associated("aa:bb:cc:00:00:01", "elsewhere", at: 5),
        ])
        #expect(records.map(\.brief) == ["start north@1", "roam south@3"])
        #expect(normalizer.takeReports() == [.unknownAccessPoint("elsewhere")])
        #expect(normalizer.tally[.unknownAccessPoints] == 2)
    }

    @Test mutating func impossibleClocksAreReplacedByOurs() {
        var records = normalizer.on(Say.associated("m1", "a", at: 0, received: 1_700_000_000), now: 1_700_000_000)
        records += normalizer.on(
            Say.associated("m1", "b", at: 1_800_000_000, received: 1_700_000_005),
            now: 1_700_000_005
        )
        records += normalizer.on(Say.associated("m1", "c", at: .nan, received: 1_700_000_006), now: 1_700_000_006)
        #expect(records.map(\.brief) == ["start a@1700000000", "roam b@1700000005"])
        #expect(normalizer.tally[.wrongClock] == 3)
    }

    @Test mutating func daysOfATraceAreKept() {
        var first = Say.associated("m1", "a", at: 86_400 + 5, source: .line)
        first.day = 1
        var second = Say.stop("m1", "a", at: 86_400 + 9, source: .line)
        second.day = 1
        let records = normalizer.run([first, second])
        #expect(records.map(\.brief) == ["start a@5", "stop a@9"])
        #expect(records.map(\.day) == [1, 1])
    }

    @Test func usersOverTheLimitMakeRoom() {
        var settings = RoamingNormalizer.Settings()
        settings.userLimit = 100
        var normalizer = RoamingNormalizer(settings: settings)
        for round in 0..<10_000 {
            let time = Double(round)
            _ = normalizer.on(Say.associated("m\(round)", "a\(round % 7)", at: time, user: "u\(round)"), now: time)
            _ = normalizer.on(Say.stop("m\(round)", "a\(round % 7)", at: time), now: time)
        }
        #expect(normalizer.userCount == 100)
        #expect(normalizer.tally[.evictedUsers] == 9_900)
        #expect(normalizer.tally[.records] > 19_000)
    }

    @Test(arguments: [
        ("ann", "ann"), ("Ann@example.org", "ann"), ("EXAMPLE\\ann", "ann"), ("a b", nil), ("", nil), ("1ann", nil),
        ("host/pc.example.org", nil), ("aabbccddeeff", nil), (String(repeating: "a", count: 33), nil), ("änn", nil),
    ])
    func identitiesBecomeUsersWhereTheyCan(_ identity: String, _ user: String?) {
        #expect(RoamingDirectory.user(fromIdentity: identity) == user)
    }
}
