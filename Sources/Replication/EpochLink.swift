/// A stream of epochs to the host of one replica; messages arrive in the order in which they are sent.
package protocol EpochLink: Sendable {
    /// Hands a message to the transport; waits while it is behind.
    func send(_ message: EpochMessage) async throws
    /// The replica's next answer; nil once it has ended the stream.
    func next() async throws -> EpochMessage?
    /// Ends the stream.
    func close()
}

/// Why a replica could not be brought up to date.
package struct ReplicaError: Error, Sendable, CustomStringConvertible {
    package let cause: String
    package let remedy: String

    /// An error.
    package init(cause: String, remedy: String) {
        self.cause = cause
        self.remedy = remedy
    }

    /// The cause.
    package var description: String { cause }
}

/// Lets the cut of one SMI overtake the background rounds of others on the same link.
package actor LinkPriority {
    private var cuts: [String: Int] = [:]
    private var waiting: [String: [CheckedContinuation<Void, Never>]] = [:]

    /// No cut is under way.
    package init() {}

    /// A cut to a host begins.
    package func beginCut(to host: String) {
        cuts[host, default: 0] += 1
    }

    /// A cut to a host has ended.
    package func endCut(to host: String) {
        cuts[host, default: 1] -= 1
        guard cuts[host] == 0 else { return }
        cuts[host] = nil
        for waiter in waiting.removeValue(forKey: host) ?? [] { waiter.resume() }
    }

    /// Returns once no cut is on its way to a host.
    package func giveWay(to host: String) async {
        while cuts[host] != nil {
            await withCheckedContinuation { waiting[host, default: []].append($0) }
        }
    }
}

/// The speed of the links to other hosts, as rounds have measured it.
package actor LinkRates {
    /// What a link is taken for until it was measured: that of the paper, 50 Mbit/s.
    package static let unmeasured = 6.25e6
    /// A transfer smaller than this says more about the round trip than about the rate.
    private static let smallest = 64 << 10

    private var rates: [String: Double] = [:]

    /// Nothing has been measured.
    package init() {}

    /// Bytes a second to a host.
    package func rate(to host: String) -> Double { rates[host] ?? Self.unmeasured }

    /// Takes in a transfer.
    package func transferred(_ bytes: Int, in seconds: Double, to host: String) {
        guard bytes >= Self.smallest, seconds > 0 else { return }
        let measured = Double(bytes) / seconds
        rates[host] = rates[host].map { $0 * 0.5 + measured * 0.5 } ?? measured
    }
}
