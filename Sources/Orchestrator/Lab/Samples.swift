/// Measured values of one figure, in the order in which they were taken.
package struct Samples: Sendable, Equatable {
    package private(set) var values: [Double] = []

    /// No values, or those given.
    package init(_ values: [Double] = []) {
        self.values = values
    }

    package mutating func add(_ value: Double) {
        values.append(value)
    }

    /// Adds a value where it was measured.
    package mutating func add(_ value: Double?) {
        if let value { values.append(value) }
    }

    /// The middle value, or the mean of the two in the middle; nil without values.
    package var median: Double? {
        if values.isEmpty { return nil }
        let sorted = values.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// The smallest value that 99 % of the values do not exceed; nil with fewer than 100, where it would only be another
    /// name for the largest.
    package var p99: Double? {
        values.count >= 100 ? quantile(0.99) : nil
    }

    package var least: Double? { values.min() }
    package var most: Double? { values.max() }

    /// The smallest value that a share of the values, 0…1, do not exceed (nearest rank).
    package func quantile(_ share: Double) -> Double? {
        if values.isEmpty { return nil }
        let rank = Int((share * Double(values.count)).rounded(.up))
        return values.sorted()[min(max(rank, 1), values.count) - 1]
    }
}

extension Samples: Encodable {
    enum CodingKeys: String, CodingKey {
        case runs, median, p99, min, max
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(values.count, forKey: .runs)
        try container.encode(median, forKey: .median)
        try container.encode(p99, forKey: .p99)
        try container.encode(least, forKey: .min)
        try container.encode(most, forKey: .max)
    }
}
