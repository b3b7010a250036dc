#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// A notification of an ETSI MEC platform that says where stations are.
package enum MECNotification: Sendable, Hashable {
    /// MEC 028 `AssocStaNotification`: everything that is associated with one access point now.
    case associated(accessPoint: [String], stations: [String], time: Double?)
    /// MEC 013 `userLocationEventNotification`: one user enters or leaves the area of an access point.
    case located(address: String, accessPoint: String, enters: Bool, time: Double?)
    /// A platform that tries whether we are there, or tells something that is not about places.
    case other(String)

    /// Reads a notification, bare as in MEC 028 and MEC 013 v3, or wrapped in an object that names it, as in v2 and in
    /// MEC 013's examples.
    ///
    /// Unknown members are ignored, as platforms of later versions send more.
    package static func read(_ body: [UInt8]) throws -> MECNotification {
        let outer = try JSONDecoder().decode(Outer.self, from: Data(body))
        let wrapped: (String, Body)? =
            outer.assocStaNotification.map { ("AssocStaNotification", $0) }
            ?? (outer.userLocationEventNotification ?? outer.zoneLocationEventNotification
            ?? outer.zonalPresenceNotification).map { ("UserLocationEventNotification", $0) }
        if let (type, body) = wrapped { return try body.meaning(type) }
        let bare = try JSONDecoder().decode(Body.self, from: Data(body))
        return try bare.meaning(bare.notificationType ?? "")
    }

    /// What makes a notification useless.
    package enum Defect: Error, Sendable, Hashable {
        case missing(String)
    }

    private struct Outer: Decodable {
        var assocStaNotification: Body?
        var userLocationEventNotification: Body?
        var zoneLocationEventNotification: Body?
        var zonalPresenceNotification: Body?
    }

    private struct Body: Decodable {
        struct AccessPoint: Decodable {
            var bssid: String?
            var ipAddress: OneOrMany<String>?
        }

        struct Station: Decodable {
            var macId: String?
        }

        struct Time: Decodable {
            var seconds: Double
            var nanoSeconds: Double?
        }

        var notificationType: String?
        var timeStamp: Time?
        var timestamp: Time?
        var apId: AccessPoint?
        var staId: OneOrMany<Station>?
        var address: String?
        var accessPointId: String?
        var currentAccessPointId: String?
        var userLocationEvent: String?
        var userEventType: String?

        func meaning(_ type: String) throws -> MECNotification {
            let time = (timeStamp ?? timestamp).map { $0.seconds + ($0.nanoSeconds ?? 0) / 1e9 }
            if let time, !(0...1e11).contains(time) { throw Defect.missing("timeStamp") }
            switch type {
            case "AssocStaNotification":
                let names = [apId?.bssid.map { MACAddress($0)?.description ?? $0 }].compactMap { $0 }
                let all = names + (apId?.ipAddress?.values ?? [])
                guard !all.isEmpty else { throw Defect.missing("apId") }
                let stations = (staId?.values ?? []).compactMap(\.macId).map { MACAddress($0)?.description ?? $0 }
                return .associated(accessPoint: all, stations: stations, time: time)
            case "UserLocationEventNotification", "ZoneLocationEventNotification", "ZonalPresenceNotification":
                guard let address else { throw Defect.missing("address") }
                guard let event = userLocationEvent ?? userEventType else { throw Defect.missing("userLocationEvent") }
                guard let place = accessPointId ?? currentAccessPointId else { throw Defect.missing("accessPointId") }
                switch event {
                case "ENTERING_AREA_EVENT", "Entering", "Transferring":
                    return .located(address: address, accessPoint: place, enters: true, time: time)
                case "LEAVING_AREA_EVENT", "Leaving":
                    return .located(address: address, accessPoint: place, enters: false, time: time)
                default:
                    return .other(event)
                }
            default:
                return .other(type)
            }
        }
    }

    /// A list, or its only member without the brackets, as some platforms write it.
    private struct OneOrMany<Element: Decodable>: Decodable {
        var values: [Element]

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let many = try? container.decode([Element].self) {
                values = many
            } else {
                values = [try container.decode(Element.self)]
            }
        }
    }
}
