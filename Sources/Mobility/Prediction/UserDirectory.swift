/// Numbers of users by name; where there are too many, the number of the one seen least recently is given away.
struct UserDirectory {
    let limit: Int
    private(set) var names: [String] = []
    private var numbers: [String: Int32] = [:]
    /// A list by time of last sight: towards longer ago, towards more recent; -1 ends it.
    private var older: [Int32] = []
    private var newer: [Int32] = []
    private var oldest: Int32 = -1
    private var newest: Int32 = -1

    init(limit: Int) { self.limit = max(limit, 1) }

    /// The number of a user, who is marked as seen now; `isNew` where the number's state must be reset.
    mutating func number(of name: String) -> (number: Int, isNew: Bool) {
        if let known = numbers[name] {
            touch(known)
            return (Int(known), false)
        }
        let number: Int32
        if names.count < limit {
            number = Int32(names.count)
            names.append(name)
            older.append(-1)
            newer.append(-1)
        } else {
            number = oldest
            unlink(number)
            numbers[names[Int(number)]] = nil
            names[Int(number)] = name
        }
        numbers[name] = number
        linkNewest(number)
        return (Int(number), true)
    }

    /// Numbers from the one seen longest ago to the one seen last.
    var bySight: [Int] {
        var list: [Int] = []
        var number = oldest
        while number >= 0 {
            list.append(Int(number))
            number = newer[Int(number)]
        }
        return list
    }

    private mutating func touch(_ number: Int32) {
        guard number != newest else { return }
        unlink(number)
        linkNewest(number)
    }

    private mutating func unlink(_ number: Int32) {
        let (before, after) = (older[Int(number)], newer[Int(number)])
        if before >= 0 { newer[Int(before)] = after } else { oldest = after }
        if after >= 0 { older[Int(after)] = before } else { newest = before }
    }

    private mutating func linkNewest(_ number: Int32) {
        older[Int(number)] = newest
        newer[Int(number)] = -1
        if newest >= 0 { newer[Int(newest)] = number } else { oldest = number }
        newest = number
    }
}
