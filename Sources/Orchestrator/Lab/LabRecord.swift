import Foundation
import LinuxSystem

/// One host of a lab, as made.
package struct LabHost: Codable, Sendable, Equatable {
    /// Such as `host1`.
    package let name: String
    /// Counted from 1.
    package let index: Int
    /// Keeps the host's namespaces alive; nil before they are made.
    package var holder: ProcessIdentity?
    /// Whether the supervisor is to run its daemon: not before the host has joined the cluster.
    package var wantsDaemon = false
    /// Whether nothing is to run on it: it was killed as a whole, or is not complete yet.
    package var isOff = false
    /// Whether it has joined the cluster, which it does once.
    package var isMember = false
    /// Its link's rate, each way.
    package var rate: LinkRate
    /// Whether its link drops everything.
    package var isCut = false

    /// `10.77.0.<index>`.
    package var address: String { "10.77.0.\(index)" }
    /// `fd77::<index>`, written in hexadecimal.
    package var address6: String { "fd77::" + String(index, radix: 16) }
    /// The same each time the host is made, so that no neighbour table goes stale.
    var mac: String { "02:4c:41:42:00:" + (index < 16 ? "0" : "") + String(index, radix: 16) }
    /// The fabric's end of its link.
    var port: String { "port\(index)" }
    /// `ap<index>`, the access point mapped to it.
    package var accessPoint: String { "ap\(index)" }
    /// What its CLOCK_MONOTONIC is ahead of the machine's, seconds.
    var clockOffset: Int { 1000 * index }
    /// Whether its namespaces live.
    package var isAlive: Bool { holder?.isAlive ?? false }
}

/// What a lab consists of; written by the commands that change it.
struct LabRecord: Codable, Sendable {
    enum Phase: String, Codable, Sendable {
        /// Being made, or left half-made by a command that was killed.
        case starting
        case up
        /// Could not be made; only its logs are kept.
        case failed
    }

    /// Tells the record of an earlier boot from one that may still be true.
    var boot = Self.currentBoot
    var phase = Phase.starting
    /// Grows with each change that the supervisor must see.
    var revision = 0
    let plan: LabPlan
    /// The binary that the hosts run.
    let binary: String
    /// The binary that supervises them; the same one but in tests.
    let supervisor: String
    /// The daemons' environment, `NAME=value`.
    let environment: [String]
    /// Keeps the network namespace of the fabric alive.
    var fabric: ProcessIdentity?
    var hosts: [LabHost]
    /// Directories outside the lab's own that were made for it.
    var created: [String] = []

    static let currentBoot = ((try? FileContents.string(of: "/proc/sys/kernel/random/boot_id")) ?? "").trimmed

    /// The record, if there is one and it can be read.
    static func load(_ layout: LabLayout) -> LabRecord? {
        RecordFile.load(LabRecord.self, from: layout.record)
    }

    /// The record's host of that name.
    func host(_ name: String) throws(LabError) -> LabHost {
        if let host = hosts.first(where: { $0.name == name }) { return host }
        throw LabError(
            .hostUnknown,
            cause: "the lab has no host '\(name)'",
            remedy: "`smirun lab status` lists its hosts: \(hosts.map(\.name).joined(separator: ", "))"
        )
    }

    /// Whether anything of it can still run.
    var isOfThisBoot: Bool { boot == Self.currentBoot }
}

/// What the supervisor runs; written by the supervisor.
package struct SupervisorRecord: Codable, Sendable, Equatable {
    /// What one supervised process is doing.
    package struct Service: Codable, Sendable, Equatable {
        package enum State: String, Codable, Sendable {
            case running
            /// Died at once, several times in a row; started again later.
            case backingOff = "backing-off"
            /// Its host is gone.
            case hostDown = "host-down"
        }

        package var state = State.running
        /// Nil while it does not run.
        package var process: ProcessIdentity?
        /// How many times it was started.
        package var starts = 0
        /// How many times in a row it died right after its start.
        package var failures = 0
        /// How it ended last, where that is known.
        package var lastExit: Int32?

        /// Whether its process runs now.
        package var isAlive: Bool { process?.isAlive ?? false }
    }

    package var process: ProcessIdentity?
    /// Revision of the lab's record that it has acted on.
    package var revision = 0
    /// The hosts' daemons, by host.
    package var daemons: [String: Service] = [:]
    /// The processes that delay the hosts' links, by host; none in a lab without delay.
    package var links: [String: Service] = [:]

    /// The record of a supervised process.
    subscript(task: SupervisedTask) -> Service {
        get { (task.role == .daemon ? daemons[task.host] : links[task.host]) ?? Service() }
        set {
            switch task.role {
            case .daemon: daemons[task.host] = newValue
            case .link: links[task.host] = newValue
            }
        }
    }
}

/// Something that the supervisor keeps running.
struct SupervisedTask: Hashable, Sendable {
    enum Role: String, Sendable {
        case daemon
        case link
    }

    let host: String
    let role: Role
}

/// A file that holds one JSON document, replaced as a whole.
enum RecordFile {
    /// Reads a document; nil if the file is missing or not readable as one.
    static func load<Document: Decodable>(_ type: Document.Type, from path: String) -> Document? {
        (try? FileContents.string(of: path)).flatMap { try? JSONDecoder().decode(type, from: Data($0.utf8)) }
    }

    /// Replaces the document; a reader sees the one before or this one, never half of it.
    static func store(_ document: some Encodable, at path: String) throws(LabError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        do {
            try encoder.encode(document).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw LabError(
                .systemCall,
                cause: "\(path) cannot be written: \(error.localizedDescription)",
                remedy: "make room on the disk, then run `smirun lab down`"
            )
        }
    }
}

extension String {
    var trimmed: String { trimmingCharacters(in: .whitespacesAndNewlines) }

    /// The last lines of a text.
    func tail(lines: Int = 20) -> String {
        split(separator: "\n").suffix(lines).joined(separator: "\n")
    }
}
