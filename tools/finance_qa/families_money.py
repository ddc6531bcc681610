"""Families of calculations on interest, loans, bonds and foreign exchange."""

from .calculation import Calculation, decimal_of, family, money


@family("interest", 1)
def simple_interest(r):
    p, rate, years = r.randrange(5, 200) * 100, r.choice([2, 3, 4, 5, 6, 7, 8]), r.randint(2, 8)
    c = Calculation("simple interest = principal × rate × years")
    c.step("interest", f"{p} * {decimal_of(rate)} * {years}")
    return [f"How much simple interest does {money(p)} earn in {years} years at {rate}% per year?",
            f"{money(p)} is lent for {years} years at {rate}% simple interest per year. How much interest is paid?",
            f"What is the simple interest on a deposit of {money(p)} at {rate}% a year for {years} years?"], c


@family("interest", 2)
def simple_interest_total(r):
    p, rate, months = r.randrange(4, 90) * 300, r.choice([4, 5, 6, 8, 9, 10]), r.choice([3, 4, 6, 9, 15, 18])
    c = Calculation("amount repaid = principal + principal × rate × months / 12")
    interest = c.step("interest", f"{p} * {decimal_of(rate)} * {months} / 12")
    c.step("amount repaid", f"{p} + {interest}")
    return [f"A trader borrows {money(p)} for {months} months at {rate}% simple interest per year. How much is repaid in total?",
            f"What is the total repayment of a {money(p)} loan after {months} months at {rate}% simple annual interest?",
            f"A short-term loan of {money(p)} runs for {months} months at {rate}% simple interest a year. What must be paid back?"], c


@family("interest", 2)
def compound_interest(r):
    p, rate, years = r.randrange(5, 150) * 100, r.choice([2, 3, 4, 5, 6, 7, 8]), r.randint(2, 10)
    c = Calculation("future value = principal × (1 + rate)^years")
    c.step("future value", f"{p} * (1 + {decimal_of(rate)}) ** {years}")
    return [f"What is the future value of {money(p)} after {years} years at {rate}% compounded annually?",
            f"A saver deposits {money(p)} at {rate}% per year, compounded annually. What is the balance after {years} years?",
            f"To what amount does {money(p)} grow in {years} years at an annual compound rate of {rate}%?"], c


@family("interest", 3)
def compound_interest_monthly(r):
    p, rate, years = r.randrange(10, 200) * 100, r.choice([3, 6, 9, 12]), r.randint(2, 6)
    c = Calculation("future value = principal × (1 + rate / 12)^(12 × years)")
    periods = c.step("number of months", f"12 * {years}", 0)
    c.step("future value", f"{p} * (1 + {decimal_of(rate)} / 12) ** {periods}")
    return [f"What is the future value of {money(p)} after {years} years at a nominal {rate}% compounded monthly?",
            f"A deposit of {money(p)} earns a nominal {rate}% a year, compounded monthly. What is it worth after {years} years?",
            f"{money(p)} is invested for {years} years at {rate}% per year with monthly compounding. What is the final balance?"], c


@family("interest", 2)
def present_value(r):
    f, rate, years = r.randrange(10, 300) * 100, r.choice([3, 4, 5, 6, 7, 8, 10]), r.randint(2, 10)
    c = Calculation("present value = future value / (1 + rate)^years")
    c.step("present value", f"{f} / (1 + {decimal_of(rate)}) ** {years}")
    return [f"What is the present value of {money(f)} due in {years} years at a discount rate of {rate}%?",
            f"How much must be invested today at {rate}% per year, compounded annually, to have {money(f)} in {years} years?",
            f"A payment of {money(f)} will be received in {years} years. What is it worth today at {rate}% per year?"], c


@family("interest", 3)
def effective_annual_rate(r):
    rate, (name, n) = r.choice([4, 6, 8, 10, 12, 15, 18]), r.choice([("monthly", 12), ("quarterly", 4), ("semi-annually", 2)])
    c = Calculation("effective annual rate = ((1 + nominal rate / periods)^periods - 1) × 100")
    c.step("effective rate", f"((1 + {decimal_of(rate)} / {n}) ** {n} - 1) * 100", 2, "%")
    return [f"What is the effective annual rate of a nominal {rate}% compounded {name}?",
            f"A bank quotes a nominal annual rate of {rate}% with interest compounded {name}. What is the effective annual rate?",
            f"Convert a nominal annual rate of {rate}% compounded {name} into an effective annual rate."], c


@family("interest", 1)
def rule_of_72(r):
    rate = r.choice([1.5, 2, 2.5, 3, 4, 4.5, 5, 6, 7.5, 8, 9, 10, 12])
    c = Calculation("years to double = 72 / rate in percent")
    c.step("years", f"72 / {rate}", 1)
    return [f"By the rule of 72, in about how many years does money double at {rate}% per year?",
            f"Use the rule of 72 to estimate the doubling time of savings at {rate}% a year.",
            f"About how many years does an investment need to double at {rate}% per year according to the rule of 72?"], c


@family("interest", 3)
def real_rate(r):
    nominal, inflation = r.choice([4, 5, 6, 7, 8, 9]), r.choice([1, 1.5, 2, 2.5, 3, 3.5])
    c = Calculation("real rate = ((1 + nominal rate) / (1 + inflation rate) - 1) × 100")
    c.step("real rate", f"((1 + {decimal_of(nominal)}) / (1 + {decimal_of(inflation)}) - 1) * 100", 2, "%")
    return [f"What is the exact real interest rate if the nominal rate is {nominal}% and inflation is {inflation}%?",
            f"A deposit pays {nominal}% while prices rise by {inflation}% a year. What is the exact real rate of return?",
            f"Use the Fisher equation to find the real rate for a nominal rate of {nominal}% and inflation of {inflation}%."], c


@family("interest", 2)
def purchasing_power(r):
    p, rate, years = r.randrange(10, 100) * 100, r.choice([2, 3, 4, 5, 6]), r.randint(3, 15)
    c = Calculation("purchasing power = amount / (1 + inflation rate)^years")
    c.step("purchasing power", f"{p} / (1 + {decimal_of(rate)}) ** {years}")
    return [f"Inflation is {rate}% per year. What is the purchasing power in today's money of {money(p)} after {years} years?",
            f"What will {money(p)} be able to buy in {years} years, in today's money, if prices rise by {rate}% a year?",
            f"{money(p)} is kept in cash for {years} years while inflation is {rate}% a year. What is its value in today's money?"], c


@family("loans", 3)
def savings_plan(r):
    pay, rate, years = r.randrange(5, 60) * 100, r.choice([2, 3, 4, 5, 6]), r.randint(3, 12)
    c = Calculation("future value = payment × ((1 + rate)^years - 1) / rate")
    c.step("future value", f"{pay} * ((1 + {decimal_of(rate)}) ** {years} - 1) / {decimal_of(rate)}")
    return [f"A saver pays in {money(pay)} at the end of each year for {years} years at {rate}%. What is the final balance?",
            f"What is the future value of an ordinary annuity of {money(pay)} a year for {years} years at {rate}%?",
            f"{money(pay)} is invested at every year-end for {years} years and earns {rate}% a year. What is it worth at the end?"], c


@family("loans", 3)
def annuity_present_value(r):
    pay, rate, years = r.randrange(8, 120) * 100, r.choice([3, 4, 5, 6, 7, 8]), r.randint(3, 15)
    c = Calculation("present value = payment × (1 - (1 + rate)^-years) / rate")
    c.step("present value", f"{pay} * (1 - (1 + {decimal_of(rate)}) ** -{years}) / {decimal_of(rate)}")
    return [f"What is the present value of {money(pay)} paid at the end of each year for {years} years at {rate}%?",
            f"A pension pays {money(pay)} at each year-end for {years} years. What is it worth today at a rate of {rate}%?",
            f"What lump sum today equals {years} year-end payments of {money(pay)} at a discount rate of {rate}%?"], c


@family("loans", 4)
def monthly_payment(r):
    p, rate, years = r.randrange(5, 60) * 5000, r.choice([3, 3.6, 4.2, 4.8, 6, 7.2]), r.choice([5, 10, 15, 20, 25, 30])
    c = Calculation("payment = loan × monthly rate / (1 - (1 + monthly rate)^-months)")
    monthly = c.step("monthly rate", f"{decimal_of(rate)} / 12", 4)
    months = c.step("months", f"{years} * 12", 0)
    c.step("payment", f"{p} * {monthly} / (1 - (1 + {monthly}) ** -{months})")
    return [f"What is the monthly payment on a {money(p)} loan over {years} years at a nominal {rate}% per year?",
            f"A buyer takes a mortgage of {money(p)} for {years} years at {rate}% per year. What is the level monthly payment?",
            f"A loan of {money(p)} at {rate}% a year is repaid in equal monthly payments over {years} years. How much is each?"], c


@family("loans", 5)
def total_interest(r):
    p, rate, years = r.randrange(10, 80) * 1000, r.choice([3, 4, 5, 6, 7, 8]), r.randint(4, 10)
    c = Calculation("total interest = annual payment × years - loan, with annual payment = loan × rate / (1 - (1 + rate)^-years)")
    pay = c.step("annual payment", f"{p} * {decimal_of(rate)} / (1 - (1 + {decimal_of(rate)}) ** -{years})")
    total = c.step("total paid", f"{pay} * {years}")
    c.step("total interest", f"{total} - {p}")
    return [f"A loan of {money(p)} is repaid in {years} equal year-end payments at {rate}%. What is the total interest?",
            f"How much interest is paid in total on {money(p)} borrowed at {rate}% and repaid in {years} equal annual payments?",
            f"A firm borrows {money(p)} at {rate}% a year and repays it in {years} level annual payments. What does the interest "
            "add up to?"], c


@family("loans", 5)
def first_payment_split(r):
    p, rate, pay = r.randrange(20, 80) * 5000, r.choice([3, 3.6, 4.2, 4.8, 6]), 0
    pay = int(p * (rate / 1200 + r.choice([0.002, 0.003, 0.004])) / 50) * 50 + 50
    c = Calculation("interest = balance × annual rate / 12, principal = payment - interest, new balance = balance - principal")
    interest = c.step("interest", f"{p} * {decimal_of(rate)} / 12")
    principal = c.step("principal", f"{pay} - {interest}")
    c.step("new balance", f"{p} - {principal}")
    return [f"A mortgage of {money(p)} at {rate}% a year has a monthly payment of {money(pay)}. What is the balance after the "
            "first payment?",
            f"The monthly payment on a {money(p)} loan at {rate}% per year is {money(pay)}. How much is owed after one payment?",
            f"After the first monthly payment of {money(pay)} on a loan of {money(p)} at {rate}% a year, what balance remains?"], c


@family("loans", 2)
def loan_to_value(r):
    value = r.randrange(30, 160) * 5000
    loan = value * r.choice([55, 60, 65, 70, 72, 75, 80, 85, 90]) // 100 + r.choice([0, 1000, 2000])
    c = Calculation("loan-to-value ratio = loan / value × 100")
    c.step("ratio", f"{loan} / {value} * 100", 2, "%")
    return [f"What is the loan-to-value ratio of a {money(loan)} mortgage on a house worth {money(value)}?",
            f"A flat is valued at {money(value)} and secured with a loan of {money(loan)}. What is the loan-to-value ratio?",
            f"A bank lends {money(loan)} on a property of {money(value)}. What is the loan-to-value ratio in percent?"], c


@family("interest", 2)
def perpetuity(r):
    pay, rate = r.randrange(4, 100) * 50, r.choice([2.5, 3, 4, 5, 6, 8])
    c = Calculation("present value = payment / rate")
    c.step("present value", f"{pay} / {decimal_of(rate)}")
    return [f"What is the present value of a perpetuity of {money(pay)} a year at {rate}%?",
            f"A foundation wants to pay {money(pay)} every year forever and earns {rate}%. How much money does it need?",
            f"What is a payment of {money(pay)} per year without end worth at a discount rate of {rate}%?"], c


@family("bonds", 1)
def coupon_payment(r):
    face, rate = r.choice([500, 1000, 2000, 5000, 10000]), r.choice([1.5, 2, 2.25, 3, 3.5, 4, 4.75, 5, 6])
    c = Calculation("annual coupon = face value × coupon rate")
    c.step("coupon", f"{face} * {decimal_of(rate)}")
    return [f"What is the annual coupon of a bond with a face value of {money(face)} and a coupon rate of {rate}%?",
            f"A bond has a face value of {money(face)} and pays {rate}% a year. How much does it pay each year?",
            f"How much interest does a {rate}% bond with a face value of {money(face)} pay per year?"], c


@family("bonds", 2)
def current_yield(r):
    coupon, price = r.choice([25, 30, 35, 40, 45, 50, 60, 70]), r.randrange(880, 1130, 5)
    c = Calculation("current yield = annual coupon / price × 100")
    c.step("yield", f"{coupon} / {price} * 100", 2, "%")
    return [f"What is the current yield of a bond that pays {money(coupon)} a year and costs {money(price)}?",
            f"A bond is priced at {money(price)} and its annual coupon is {money(coupon)}. What is its current yield?",
            f"An investor buys a bond for {money(price)} with a coupon of {money(coupon)} per year. What is the current yield?"], c


@family("bonds", 3)
def zero_coupon_price(r):
    face, rate, years = r.choice([1000, 5000, 10000]), r.choice([2, 2.5, 3, 3.5, 4, 5, 6]), r.randint(2, 20)
    c = Calculation("price = face value / (1 + yield)^years")
    c.step("price", f"{face} / (1 + {decimal_of(rate)}) ** {years}")
    return [f"What is the price of a {years}-year zero-coupon bond with a face value of {money(face)} at a yield of {rate}%?",
            f"A zero-coupon bond repays {money(face)} in {years} years. What is its price at an annual yield of {rate}%?",
            f"At a yield of {rate}%, how much does a zero-coupon bond of {money(face)} due in {years} years cost?"], c


@family("bonds", 4)
def bond_price(r):
    rate, market, years = r.choice([2, 3, 4, 5, 6, 7]), r.choice([2.5, 3.5, 4.5, 5.5, 6.5]), r.randint(3, 12)
    c = Calculation("price = coupon × (1 - (1 + yield)^-years) / yield + face value / (1 + yield)^years")
    y = decimal_of(market)
    coupon = c.step("coupon", f"1000 * {decimal_of(rate)}")
    coupons = c.step("value of the coupons", f"{coupon} * (1 - (1 + {y}) ** -{years}) / {y}")
    face = c.step("value of the face value", f"1000 / (1 + {y}) ** {years}")
    c.step("price", f"{coupons} + {face}")
    return [f"What is the price of a {years}-year bond with a face value of $1,000, a {rate}% annual coupon and a yield of {market}%?",
            f"A bond of $1,000 pays a {rate}% coupon once a year for {years} years. What is its price at a yield of {market}%?",
            f"The market yield is {market}%. What is a {years}-year $1,000 bond with an annual coupon of {rate}% worth?"], c


@family("bonds", 3)
def duration_price_change(r):
    duration, change = r.choice([2.4, 3.1, 4.5, 5.2, 6.8, 7.3, 8.6]), r.choice([0.25, 0.4, 0.5, 0.75, 1.2])
    up = r.random() < 0.5
    c = Calculation("price change = -modified duration × change in yield")
    c.step("change", f"-{duration} * {change}" if up else f"-{duration} * (-{change})", 2, "%")
    word = "rises" if up else "falls"
    return [f"A bond has a modified duration of {duration}. By about what percentage does its price change if its yield {word} by "
            f"{change} percentage points?",
            f"Estimate the percentage price change of a bond with modified duration {duration} when the yield {word} by "
            f"{change} percentage points."], c


@family("bonds", 5)
def macaulay_duration(r):
    rate, market = r.choice([3, 4, 5, 6, 8]), r.choice([3, 4, 5, 6, 7])
    c = Calculation("duration = sum of (time × present value of payment) / price")
    y, coupon = decimal_of(market), 10 * rate
    one = c.step("value of the first payment", f"{coupon} / (1 + {y})")
    two = c.step("value of the second payment", f"({coupon} + 1000) / (1 + {y}) ** 2")
    price = c.step("price", f"{one} + {two}")
    c.step("duration", f"(1 * {one} + 2 * {two}) / {price}", 3)
    return [f"What is the Macaulay duration in years of a 2-year bond with a face value of $1,000, annual coupons of "
            f"{money(coupon)} and a yield of {market}%?",
            f"A 2-year bond of $1,000 pays {money(coupon)} at each year-end and yields {market}%. What is its Macaulay "
            "duration in years?"], c


@family("foreign exchange", 1)
def convert_currency(r):
    amount, rate = r.randrange(4, 90) * 50, r.choice([1.05, 1.08, 1.12, 1.15, 1.22, 1.27, 1.31])
    c = Calculation("amount in dollars = amount in foreign currency × rate")
    c.step("dollars", f"{amount} * {rate}")
    return [f"One unit of a foreign currency costs ${rate:.2f}. How many dollars are {amount:,} units worth?",
            f"A traveller changes {amount:,} units of a currency at ${rate:.2f} per unit. How many dollars does the traveller get?",
            f"At a rate of ${rate:.2f} per unit, what is the value in dollars of {amount:,} units of a foreign currency?"], c


@family("foreign exchange", 2)
def convert_with_fee(r):
    amount, rate, fee = r.randrange(5, 60) * 100, r.choice([0.75, 0.82, 0.88, 0.92, 0.95]), r.choice([1, 1.5, 2, 2.5, 3])
    c = Calculation("units received = (amount - amount × fee) × rate")
    cost = c.step("fee", f"{amount} * {decimal_of(fee)}")
    net = c.step("amount after the fee", f"{amount} - {cost}")
    c.step("units received", f"{net} * {rate}")
    return [f"A bank charges a fee of {fee}% and gives {rate} units of a foreign currency per dollar. How many units are received "
            f"for {money(amount)}?",
            f"{money(amount)} is exchanged at {rate} units per dollar after a fee of {fee}%. How many units result?"], c


@family("foreign exchange", 3)
def cross_rate(r):
    a, b = r.choice([1.05, 1.08, 1.1, 1.14, 1.2]), r.choice([0.68, 0.74, 0.8, 1.25, 1.3])
    c = Calculation("cross rate = price of currency A in dollars / price of currency B in dollars")
    c.step("cross rate", f"{a} / {b}", 4)
    return [f"Currency A costs {a:.2f} dollars and currency B costs {b:.2f} dollars. What is the price of A in units of B?",
            f"What is the cross rate of currency A in currency B if A is worth ${a:.2f} and B is worth ${b:.2f}?"], c


@family("foreign exchange", 4)
def forward_rate(r):
    spot, home, foreign = r.choice([1.05, 1.1, 1.2, 1.25, 1.3, 1.4]), r.choice([2, 3, 4, 5]), r.choice([1, 2.5, 3.5, 6])
    c = Calculation("forward rate = spot rate × (1 + home rate) / (1 + foreign rate)")
    c.step("forward rate", f"{spot} * (1 + {decimal_of(home)}) / (1 + {decimal_of(foreign)})", 4)
    return [f"The spot price of a foreign currency is ${spot:.2f}, the dollar rate is {home}% and the foreign rate is {foreign}%. "
            "What is the one-year forward rate under covered interest parity?",
            f"Find the one-year forward rate from a spot rate of ${spot:.2f}, a home interest rate of {home}% and a foreign "
            f"interest rate of {foreign}%."], c
