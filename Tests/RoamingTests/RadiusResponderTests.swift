import NIOCore
import Testing

@testable import Mobility

@Suite struct RadiusResponderTests {
    private let peer: SocketAddress

    init() throws {
        peer = try SocketAddress(ipAddress: "10.1.2.3", port: 40_000)
    }

    private func responder(limit: Int = 100, seconds: Double = 60) throws -> RadiusResponder {
        var clients = IPPrefixTable<RadiusResponder.Client>()
        clients.insert(.init(secret: Array("wide".utf8)), at: try #require(IPPrefix("10.0.0.0/8")))
        clients.insert(.init(secret: RadiusClient.secret), at: try #require(IPPrefix("10.1.0.0/16")))
        clients.insert(.init(secret: Array("one".utf8), accessPoint: "ap-one"), at: try #require(IPPrefix("10.1.2.9")))
        return RadiusResponder(clients: clients, duplicateLimit: limit, duplicateSeconds: seconds)
    }

    private func event(_ bytes: [UInt8], now: Double = 1000) throws -> RoamingEvent {
        guard case .deliver(let event, _, _) = try responder().judge(ByteBuffer(bytes: bytes), from: peer, now: now)
        else {
            throw RadiusDefect.truncated
        }
        return event
    }

    @Test func aStartBecomesAnAssociationOfStationAndAccessPoint() throws {
        let event = try event(RadiusClient.request(timestamp: 990, extra: [(46, RadiusClient.word(5))]))
        #expect(event.kind == .associated)
        #expect(event.time == 990)
        #expect(event.resolution == 1)
        #expect(event.station == "aa:bb:cc:00:00:01")
        #expect(event.ap.first == "02:00:00:00:00:0a")
        #expect(event.userName == "ann")
        #expect(event.session == "S1")
        #expect(event.sessionSeconds == 5)
        #expect(event.source == .radius)
    }

    @Test func withoutATimestampTheDelayIsSubtracted() throws {
        #expect(try event(RadiusClient.request(delay: 12)).time == 988)
        #expect(try event(RadiusClient.request()).time == 1000)
        #expect(try event(RadiusClient.request(timestamp: 990, delay: 12)).time == 990)
    }

    @Test(
        arguments: [(1, RoamingEvent.Kind.associated), (2, .disassociated), (3, .present), (7, .reset), (8, .reset)]
            as [(UInt32, RoamingEvent.Kind)]
    )
    func statusTypesHaveTheirMeaning(_ status: UInt32, _ kind: RoamingEvent.Kind) throws {
        #expect(try event(RadiusClient.request(status: status)).kind == kind)
    }

    @Test func theAccessPointIsNamedByWhatThereIs() throws {
        let identifier: (type: UInt8, value: [UInt8]) = (32, Array("north".utf8))
        let address: (type: UInt8, value: [UInt8]) = (4, [192, 0, 2, 1])
        #expect(try event(RadiusClient.request(extra: [identifier])).ap == ["02:00:00:00:00:0a", "north"])
        #expect(
            try event(RadiusClient.request(called: nil, extra: [address, identifier])).ap == ["north", "192.0.2.1"]
        )
        #expect(try event(RadiusClient.request(called: nil)).ap == ["10.1.2.3"])
        #expect(try event(RadiusClient.request(called: "ap-7:guest")).ap == ["ap-7:guest", "ap-7"])
        #expect(try event(RadiusClient.request(called: "02:00:00:00:00:0b:x:y")).ap == ["02:00:00:00:00:0b"])
        #expect(try event(RadiusClient.request(extra: [identifier])).nas == "north")
    }

    @Test func theLongestPrefixGivesSecretAndAccessPoint() throws {
        let other = try SocketAddress(ipAddress: "10.200.0.1", port: 1)
        let one = try SocketAddress(ipAddress: "10.1.2.9", port: 1)
        let wide = ByteBuffer(bytes: RadiusClient.request(secret: Array("wide".utf8)))
        let single = ByteBuffer(bytes: RadiusClient.request(secret: Array("one".utf8)))
        guard case .deliver = try responder().judge(wide, from: other, now: 0) else {
            Issue.record("refused the wide prefix")
            return
        }
        #expect(try responder().judge(wide, from: peer, now: 0) == .ignore(.radiusBadAuthenticator))
        guard case .deliver(let event, _, _) = try responder().judge(single, from: one, now: 0) else {
            Issue.record("refused the single address")
            return
        }
        #expect(event.ap == ["ap-one", "02:00:00:00:00:0a"])
    }

    @Test func proxyStatesComeBackInOrderUnderAValidSignature() throws {
        let states: [(type: UInt8, value: [UInt8])] = [(33, [1, 2, 3]), (33, []), (33, [255])]
        let request = RadiusClient.request(extra: states)
        guard case .deliver(_, let answer, _) = try responder().judge(ByteBuffer(bytes: request), from: peer, now: 0)
        else {
            Issue.record("not delivered")
            return
        }
        let parsed = try RadiusPacket(parsing: answer)
        #expect(parsed.code == 5)
        #expect(parsed.attributes.map(\.type) == [33, 33, 33])
        #expect(parsed.values(33).map(Array.init) == states.map(\.value))
        #expect(RadiusClient.isSigned(answer, for: request))
    }

    @Test func aDuplicateIsAnsweredAgainAndCountedOnce() throws {
        var responder = try responder(seconds: 60)
        let request = ByteBuffer(bytes: RadiusClient.request())
        guard case .deliver(_, let answer, let key) = responder.judge(request, from: peer, now: 0) else {
            Issue.record("not delivered")
            return
        }
        // Refused by the intake: the repetition must be delivered, not answered as a duplicate.
        guard case .deliver = responder.judge(request, from: peer, now: 0) else {
            Issue.record("lost an event that nobody took")
            return
        }
        responder.accepted(key, now: 0)
        #expect(responder.judge(request, from: peer, now: 30) == .answer(answer, .radiusDuplicates))
        let elsewhere = try SocketAddress(ipAddress: "10.1.2.3", port: 40_001)
        guard case .deliver = responder.judge(request, from: elsewhere, now: 30) else {
            Issue.record("another port is another request")
            return
        }
        guard case .deliver = responder.judge(request, from: peer, now: 61) else {
            Issue.record("a repetition after the window is a new request")
            return
        }
    }

    @Test func rememberedRequestsAreBounded() throws {
        var responder = try responder(limit: 50)
        for round in 0..<1000 {
            let request = ByteBuffer(bytes: RadiusClient.request(identifier: UInt8(round & 255), session: "\(round)"))
            guard case .deliver(_, _, let key) = responder.judge(request, from: peer, now: Double(round) / 1000) else {
                Issue.record("not delivered")
                return
            }
            responder.accepted(key, now: Double(round) / 1000)
        }
        #expect(responder.remembered == 50)
    }

    @Test func whatIsNotForUsCostsACounter() throws {
        let responder = try responder()
        let stranger = try SocketAddress(ipAddress: "192.0.2.1", port: 1)
        let good = RadiusClient.request()
        func verdict(_ bytes: [UInt8], from source: SocketAddress) -> RadiusResponder.Verdict {
            responder.judge(ByteBuffer(bytes: bytes), from: source, now: 0)
        }
        #expect(verdict(good, from: stranger) == .ignore(.radiusUnknownClient))
        #expect(verdict([], from: peer) == .ignore(.radiusMalformed))
        #expect(verdict(Array(good.dropLast()), from: peer) == .ignore(.radiusMalformed))
        #expect(verdict([1] + good.dropFirst(), from: peer) == .ignore(.radiusUnexpectedCode))
        #expect(verdict([12] + good.dropFirst(), from: peer) == .ignore(.radiusBadAuthenticator))
        #expect(verdict(RadiusClient.request(secret: [1]), from: peer) == .ignore(.radiusBadAuthenticator))
    }

    @Test func whatIsOfNoUseIsAnsweredSoThatItIsNotRepeated() throws {
        func counter(_ bytes: [UInt8]) throws -> RoamingCounter? {
            guard case .answer(_, let counter) = try responder().judge(ByteBuffer(bytes: bytes), from: peer, now: 0)
            else {
                return nil
            }
            return counter
        }
        #expect(try counter(RadiusClient.request(station: nil)) == .radiusIncomplete)
        #expect(try counter(RadiusClient.request(status: 15)) == .radiusAccepted)
        let silent = RadiusPacket(code: 4, identifier: 1, attributes: [(31, Array("aabbcc000001".utf8))])
        #expect(try counter(RadiusSignature.signed(request: silent, secret: RadiusClient.secret)) == .radiusIncomplete)
    }

    @Test func prefixesOfBothFamiliesMatch() throws {
        var table = IPPrefixTable<Int>()
        table.insert(1, at: try #require(IPPrefix("fd00::/16")))
        table.insert(2, at: try #require(IPPrefix("0.0.0.0/0")))
        #expect(table.lookup(try #require(IPAddress("fd00:1::2"))) == 1)
        #expect(table.lookup(try #require(IPAddress("203.0.113.9"))) == 2)
        #expect(table.lookup(try #require(IPAddress("2001:db8::1"))) == nil)
        #expect(IPPrefix("10.0.0.0/33") == nil)
        #expect(IPPrefix("10.0.0/8") == nil)
        #expect(IPPrefix("fd00::/129") == nil)
        #expect(IPPrefix("10.0.0.0/8/1") == nil)
    }
}
