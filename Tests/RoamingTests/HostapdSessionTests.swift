import Testing

@testable import Mobility

@Suite struct HostapdMessageTests {
    @Test func readsMessagesWithAndWithoutSuffixes() throws {
        let station = try #require(MACAddress("02:00:00:00:01:00"))
        let connected = [
            "<3>AP-STA-CONNECTED 02:00:00:00:01:00", "<3>AP-STA-CONNECTED 02:00:00:00:01:00 auth_alg=open keyid=guest",
            "<2>AP-STA-CONNECTED 02:00:00:00:01:00 p2p_dev_addr=02:00:00:00:00:01\n",
            "IFNAME=wlan0 <3>AP-STA-CONNECTED 02:00:00:00:01:00",
        ]
        for text in connected { #expect(HostapdMessage(Array(text.utf8)) == .connected(station), "\(text)") }
        #expect(HostapdMessage(Array("<3>AP-STA-DISCONNECTED 02:00:00:00:01:00".utf8)) == .disconnected(station))
        #expect(HostapdMessage(Array("<3>CTRL-EVENT-TERMINATING ".utf8)) == .terminating)
        #expect(HostapdMessage(Array("<3>CTRL-EVENT-EAP-STARTED 02:00:00:00:01:00".utf8)) == .other)
    }

    @Test(arguments: [
        "", "OK\n", "PONG\n", "<", "<>", "<x>AP-STA-CONNECTED 02:00:00:00:01:00", "<3>AP-STA-CONNECTED",
        "<3>AP-STA-CONNECTED nobody", "IFNAME=wlan0", "<1234>AP-STA-CONNECTED 02:00:00:00:01:00",
    ])
    func whatIsNoMessageIsNone(_ text: String) {
        #expect(HostapdMessage(Array(text.utf8)) == nil)
    }

    @Test func readsStations() throws {
        let answer = """
            02:00:00:00:05:01
            flags=[AUTH][ASSOC][AUTHORIZED]
            dot1xAuthSessionUserName=ann
            connected_time=17
            """
        let station = try #require(HostapdStation(answer: answer))
        #expect(station.isAuthorized)
        #expect(station.identity == "ann")
        #expect(station.connectedSeconds == 17)
        #expect(HostapdStation(answer: "FAIL\n") == nil)
        #expect(HostapdStation(answer: "") == nil)
        #expect(HostapdStation(answer: "02:00:00:00:05:01\nflags=[AUTH]\n")?.isAuthorized == false)
    }
}

@Suite struct HostapdSessionTests {
    private var session = HostapdSession(accessPoint: nil, nas: "/run/hostapd/w0", now: 0)

    private mutating func answer(_ text: String, at now: Double = 0) -> [HostapdSession.Effect] {
        session.receive(Array(text.utf8), now: now)
    }

    /// ATTACH, STATUS and an empty list of stations.
    private mutating func attach() {
        #expect(session.start(now: 0) == [.send("ATTACH")])
        #expect(answer("OK\n") == [.count(.hostapdAttached), .attached, .send("STATUS")])
        #expect(answer("state=ENABLED\nbssid[0]=02:00:00:00:0A:01\n") == [.send("STA-FIRST")])
        #expect(answer("").isEmpty)
    }

    private func events(_ effects: [HostapdSession.Effect]) -> [RoamingEvent] {
        effects.compactMap { if case .event(let event) = $0 { event } else { nil } }
    }

    @Test mutating func anAssociationIsToldWithItsIdentityAtTheTimeItHappened() {
        attach()
        let asked = answer("<3>AP-STA-CONNECTED 02:00:00:00:05:01", at: 10)
        #expect(asked == [.count(.hostapdEvents), .send("STA 02:00:00:00:05:01")])
        let told = events(answer("02:00:00:00:05:01\nflags=[AUTHORIZED]\ndot1xAuthSessionUserName=ann\n", at: 10.5))
        #expect(told.map(\.userName) == ["ann"])
        #expect(told.map(\.time) == [10])
        #expect(told.map(\.ap) == [["02:00:00:00:0a:01"]])
        let left = events(answer("<3>AP-STA-DISCONNECTED 02:00:00:00:05:01", at: 11))
        #expect(left.map(\.kind) == [.disassociated])
    }

    @Test mutating func eventsBetweenCommandAndAnswerAreKeptApart() {
        attach()
        _ = answer("<3>AP-STA-CONNECTED 02:00:00:00:05:01", at: 1)
        #expect(answer("<3>AP-STA-CONNECTED 02:00:00:00:05:02", at: 1) == [.count(.hostapdEvents)])
        let first = answer("02:00:00:00:05:01\n", at: 1)
        #expect(first.contains(.send("STA 02:00:00:00:05:02")))
        #expect(events(first).map(\.station) == ["02:00:00:00:05:01"])
        #expect(events(answer("FAIL\n", at: 1)).map(\.station) == ["02:00:00:00:05:02"])
    }

    @Test mutating func silenceIsBrokenByAPingAndThenEndsTheSession() {
        attach()
        #expect(session.tick(now: 4.9).isEmpty)
        #expect(session.tick(now: 5) == [.send("PING")])
        #expect(answer("PONG\n", at: 5.1).isEmpty)
        #expect(session.tick(now: 11) == [.send("PING")])
        #expect(session.tick(now: 13) == [.count(.hostapdLost), .lost])
        #expect(session.tick(now: 14).isEmpty)
        #expect(answer("PONG\n", at: 15).isEmpty)
    }

    @Test mutating func refusalToAttachEndsTheSession() {
        _ = session.start(now: 0)
        #expect(answer("FAIL\n") == [.count(.hostapdLost), .lost])
    }

    @Test mutating func terminationEndsEveryAssociationOfTheAccessPoint() {
        attach()
        let effects = answer("<3>CTRL-EVENT-TERMINATING ", at: 7)
        #expect(events(effects).map(\.kind) == [.reset])
        #expect(effects.last == .lost)
        #expect(session.stations.isEmpty)
    }

    @Test mutating func anAssociationWhoseIdentityIsNotAnsweredIsToldWithoutIt() {
        attach()
        _ = answer("<3>AP-STA-CONNECTED 02:00:00:00:05:01", at: 1)
        #expect(events(session.tick(now: 3)).map(\.station) == ["02:00:00:00:05:01"])
    }

    @Test func whatHappenedWhileDetachedIsFoundOut() throws {
        let gone = try #require(MACAddress("02:00:00:00:05:01"))
        let stayed = try #require(MACAddress("02:00:00:00:05:02"))
        var session = HostapdSession(accessPoint: "north", nas: "n", stations: [gone, stayed], now: 100)
        _ = session.start(now: 100)
        _ = session.receive(Array("OK\n".utf8), now: 100)
        var seen: [RoamingEvent] = []
        for answer in [
            "02:00:00:00:05:02\nflags=[AUTHORIZED]\nconnected_time=50\n",
            "02:00:00:00:05:03\nflags=[AUTHORIZED]\nconnected_time=3\n", "02:00:00:00:05:04\nflags=[AUTH]\n", "FAIL\n",
        ] {
            seen += events(session.receive(Array(answer.utf8), now: 100))
        }
        #expect(seen.map(\.kind) == [.present, .present, .disassociated])
        #expect(seen.map(\.station) == ["02:00:00:00:05:02", "02:00:00:00:05:03", "02:00:00:00:05:01"])
        #expect(seen.map(\.sessionSeconds) == [50, 3, nil])
        let came = try #require(MACAddress("02:00:00:00:05:03"))
        #expect(session.stations == [stayed, came])
    }

    /// Random bytes and scrambled dialogues, the same every run: no crash, and never more than one command unanswered.
    @Test func survivesRandomDialogues() {
        var random = SplitMix(state: 7)
        let words = [
            "OK\n", "FAIL\n", "PONG\n", "", "02:00:00:00:05:02\nflags=[AUTHORIZED]\n",
            "<3>AP-STA-CONNECTED 02:00:00:00:05:02",
            "<3>AP-STA-DISCONNECTED 02:00:00:00:05:02", "<3>CTRL-EVENT-TERMINATING ", "<3>X",
            "bssid[0]=02:00:00:00:0a:01\n",
        ]
        for _ in 0..<5000 {
            var session = HostapdSession(accessPoint: nil, nas: "n", now: 0)
            var now = 0.0
            _ = session.start(now: now)
            for _ in 0..<20 {
                now += Double.random(in: 0...3, using: &random)
                var bytes = Array((words.randomElement(using: &random) ?? "").utf8)
                if Bool.random(using: &random), !bytes.isEmpty {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
                let effects = session.receive(bytes, now: now) + session.tick(now: now)
                #expect(effects.filter { if case .send = $0 { true } else { false } }.count <= 2)
            }
        }
    }
}
