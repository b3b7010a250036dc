#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// Our hand-offs, told outward as ETSI MEC 021 `MobilityProcedureNotification`s.
public struct MobilityNotice: Sendable, Hashable {
    /// MEC 021's mobilityStatus, by its numbers.
    public enum Status: Int, Sendable, Hashable, Codable, CaseIterable {
        /// INTERHOST_MOVEOUT_TRIGGERED: the hand-off begins.
        case triggered = 1
        /// INTERHOST_MOVEOUT_COMPLETED: the SMI runs on the target.
        case completed = 2
        /// INTERHOST_MOVEOUT_FAILED: the SMI runs on where it was.
        case failed = 3
    }

    /// What happened.
    public var status: Status
    /// When, in seconds since the epoch.
    public var time: Double
    /// Name of the SMI, told as the target's appInstanceId.
    public var user: String
    /// The SMI's IPv4 address (associateId type 1).
    public var ipv4: String?
    /// The SMI's IPv6 address (associateId type 2).
    public var ipv6: String?
    /// The host it goes to, and the port of its sessions there.
    public var target: String?
    /// Port at the target.
    public var targetPort: Int?

    /// Makes a notice.
    public init(
        _ status: Status,
        time: Double,
        user: String,
        ipv4: String? = nil,
        ipv6: String? = nil,
        target: String? = nil,
        targetPort: Int? = nil
    ) {
        self.status = status
        self.time = time
        self.user = user
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.target = target
        self.targetPort = targetPort
    }

    /// The notification's JSON for one subscription.
    package func json(subscription: String) throws -> [UInt8] {
        let ids = [
            ipv4.map { Body.AssociateId(type: 1, value: $0) }, ipv6.map { Body.AssociateId(type: 2, value: $0) },
        ]
        let seconds = max(0, time.rounded(.down))
        let body = Body(
            timeStamp: Body.Time(
                seconds: UInt64(min(seconds, 1e12)),
                nanoSeconds: UInt32(max(0, min(time - seconds, 0.999_999_999)) * 1e9)
            ),
            associateId: ids.compactMap { $0 },
            mobilityStatus: status.rawValue,
            targetAppInfo: target.map {
                Body.Target(
                    appInstanceId: user,
                    commInterface: Body.Target.Interface(ipAddresses: [Body.Target.Address(host: $0, port: targetPort)])
                )
            },
            _links: Body.Links(subscription: Body.Links.Link(href: subscription))
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(body))
    }

    private struct Body: Encodable {
        struct Time: Encodable {
            var seconds: UInt64
            var nanoSeconds: UInt32
        }

        struct AssociateId: Encodable {
            var type: Int
            var value: String
        }

        struct Target: Encodable {
            struct Interface: Encodable {
                var ipAddresses: [Address]
            }

            struct Address: Encodable {
                var host: String
                var port: Int?
            }

            var appInstanceId: String
            var commInterface: Interface
        }

        struct Links: Encodable {
            struct Link: Encodable {
                var href: String
            }

            var subscription: Link
        }

        var notificationType = "MobilityProcedureNotification"
        var timeStamp: Time
        var associateId: [AssociateId]
        var mobilityStatus: Int
        var targetAppInfo: Target?
        var _links: Links
    }
}
