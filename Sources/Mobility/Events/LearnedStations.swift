/// Which user a device was last seen with, learned from sources that name both; the oldest are forgotten over a limit.
struct LearnedStations: Sendable {
    private var users: [String: String] = [:]
    private var order = Fifo<String>()
    private let limit: Int

    init(limit: Int) {
        self.limit = max(1, limit)
    }

    func user(of station: String) -> String? {
        users[station]
    }

    mutating func learn(_ station: String, _ user: String) {
        guard users.updateValue(user, forKey: station) == nil else { return }
        order.append(station)
        if order.count > limit, let oldest = order.popFirst() { users[oldest] = nil }
    }
}
