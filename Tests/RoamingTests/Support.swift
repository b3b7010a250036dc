import Logging
import NIOCore

@testable import Mobility

/// Events as sources send them, with only what a test is about spelled out.
enum Say {
    static func associated(
        _ station: String,
        _ ap: String,
        at time: Double,
        received: Double? = nil,
        source: RoamingSource = .radius,
        session: String? = nil,
        user: String? = nil,
        nas: String? = nil,
        resolution: Double = 0
    ) -> RoamingEvent {
        event(.associated, station, ap, at: time, received, source, session, user, nas, resolution)
    }

    static func stop(
        _ station: String,
        _ ap: String,
        at time: Double,
        received: Double? = nil,
        source: RoamingSource = .radius,
        session: String? = nil,
        seconds: Double? = nil
    ) -> RoamingEvent {
        var stop = event(.disassociated, station, ap, at: time, received, source, session, nil, nil, 0)
        stop.sessionSeconds = seconds
        return stop
    }

    static func interim(
        _ station: String,
        _ ap: String,
        at time: Double,
        session: String? = nil,
        seconds: Double? = nil
    ) -> RoamingEvent {
        var interim = event(.present, station, ap, at: time, nil, .radius, session, nil, nil, 0)
        interim.sessionSeconds = seconds
        return interim
    }

    static func reset(ap: [String] = [], nas: String? = nil, at time: Double) -> RoamingEvent {
        RoamingEvent(kind: .reset, time: time, received: time, ap: ap, nas: nas, source: .radius)
    }

    private static func event(
        _ kind: RoamingEvent.Kind,
        _ station: String,
        _ ap: String,
        at time: Double,
        _ received: Double?,
        _ source: RoamingSource,
        _ session: String?,
        _ user: String?,
        _ nas: String?,
        _ resolution: Double
    ) -> RoamingEvent {
        RoamingEvent(
            kind: kind,
            time: time,
            resolution: resolution,
            received: received ?? time,
            station: station,
            userName: user,
            ap: [ap],
            nas: nas,
            session: session,
            source: source
        )
    }
}

extension RoamingNormalizer {
    /// Feeds events at the times they were received, then ends the trace.
    mutating func run(_ events: [RoamingEvent]) -> [RoamingRecord] {
        var records: [RoamingRecord] = []
        for event in events { records += on(event, now: event.received) }
        return records + finish()
    }
}

extension RoamingRecord {
    /// `roam b@12` and so on, for expectations one can read.
    var brief: String { "\(kind.rawValue) \(ap)@\(time.formatted)" }
}

extension Double {
    var formatted: String { self == rounded() ? String(Int(self)) : String(self) }
}

/// A small fast generator, so that a failing seed can be run again.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}

/// A RADIUS client's side.
enum RadiusClient {
    static let secret = Array("testing123".utf8)

    static func request(
        identifier: UInt8 = 7,
        status: UInt32 = 1,
        station: String? = "AA-BB-CC-00-00-01",
        called: String? = "02-00-00-00-00-0A:corp",
        user: String? = "ann",
        session: String? = "S1",
        timestamp: UInt32? = nil,
        delay: UInt32? = nil,
        extra: [(type: UInt8, value: [UInt8])] = [],
        secret: [UInt8] = secret
    ) -> [UInt8] {
        typealias Attribute = RadiusAttributeType
        var list: [(type: UInt8, value: [UInt8])] = [(Attribute.acctStatusType, word(status))]
        if let user { list.append((Attribute.userName, Array(user.utf8))) }
        if let station { list.append((Attribute.callingStationId, Array(station.utf8))) }
        if let called { list.append((Attribute.calledStationId, Array(called.utf8))) }
        if let session { list.append((Attribute.acctSessionId, Array(session.utf8))) }
        if let timestamp { list.append((Attribute.eventTimestamp, word(timestamp))) }
        if let delay { list.append((Attribute.acctDelayTime, word(delay))) }
        let packet = RadiusPacket(code: RadiusCode.accountingRequest, identifier: identifier, attributes: list + extra)
        return RadiusSignature.signed(request: packet, secret: secret)
    }

    static func word(_ value: UInt32) -> [UInt8] {
        withUnsafeBytes(of: value.bigEndian) { Array($0) }
    }

    static func isSigned(_ answer: [UInt8], for request: [UInt8], secret: [UInt8] = secret) -> Bool {
        guard answer.count >= 20, answer[1] == request[1] else { return false }
        let expected = RadiusSignature.responseAuthenticator(of: answer, request: request[4..<20], secret: secret)
        return Array(answer[4..<20]) == expected
    }
}

extension RateLimitedLog {
    /// A log nobody reads.
    static var silent: RateLimitedLog {
        RateLimitedLog(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }
}
